import { type ReactNode, useId } from "react";

interface Props {
  label: string;
  hint?: string | undefined;
  /** What the server says of this field. */
  error?: string | undefined;
  children: (control: {
    id: string;
    "aria-invalid": boolean;
    "aria-describedby": string | undefined;
  }) => ReactNode;
}

/** A label, a control, and what there is to say about it; the three belong together for screen readers too. */
export function Field({ label, hint, error, children }: Props) {
  const id = useId();
  const about = error ?? hint;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children({
        id,
        "aria-invalid": Boolean(error),
        "aria-describedby": about ? `${id}-about` : undefined,
      })}
      {about && (
        <p id={`${id}-about`} className={error ? "field-error" : "field-hint"}>
          {about}
        </p>
      )}
    </div>
  );
}
