// The clocks of users are wrong by minutes, at times by hours: whether an event is old is asked of the server's.

let aheadMs = 0;

/** Reads the clock of the server off an answer, which says when it was made (Date, to the second). */
export function setClock(answer: Response) {
  const said = Date.parse(answer.headers.get("Date") ?? "");
  if (!Number.isNaN(said)) aheadMs = said - Date.now();
}

const NEWS_S = 120;

/** Did it happen so lately that it is still news? After a night without a network all of it comes at once. */
export function isNews(timestamp: number | undefined): boolean {
  return timestamp === undefined || (Date.now() + aheadMs) / 1000 - timestamp <= NEWS_S;
}
