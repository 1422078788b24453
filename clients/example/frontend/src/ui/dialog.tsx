import { type ReactNode, useEffect, useId, useRef } from "react";

interface Props {
  title: string;
  children: ReactNode;
  onClose: () => void;
  /** alertdialog: a question that has to be answered first. */
  role?: "dialog" | "alertdialog";
}

/** A modal dialog while it is rendered. The browser keeps the focus in it, and gives it back afterwards. */
export function Dialog({ title, children, onClose, role = "dialog" }: Props) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();

  useEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);

  return (
    <dialog
      ref={element}
      role={role}
      aria-labelledby={heading}
      onCancel={(event) => {
        // Escape. React decides what is rendered, so the browser must not close it by itself.
        event.preventDefault();
        onClose();
      }}
    >
      <h2 id={heading}>{title}</h2>
      {children}
    </dialog>
  );
}

interface ConfirmProps {
  title: string;
  children: ReactNode;
  /** What the button that does it says. */
  action: string;
  busy: boolean;
  error?: string | undefined;
  onConfirm: () => void;
  onClose: () => void;
}

/** Asks before something that can't be undone. */
export function Confirm({ title, children, action, busy, error, onConfirm, onClose }: ConfirmProps) {
  return (
    <Dialog title={title} onClose={onClose} role="alertdialog">
      <div>{children}</div>
      {error && <FormError>{error}</FormError>}
      <div className="actions">
        <button type="button" className="button danger" disabled={busy} onClick={onConfirm}>
          {action}
        </button>
        <button type="button" className="button" onClick={onClose}>
          Отмена
        </button>
      </div>
    </Dialog>
  );
}

export function FormError({ children }: { children: ReactNode }) {
  return (
    <p className="form-error" role="alert">
      {children}
    </p>
  );
}
