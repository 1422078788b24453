"""Who may listen to the events of this site: what sse asks, and a meter of the questions."""
