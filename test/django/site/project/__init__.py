"""A small Django site as people have it: REST framework, its tokens, users in groups, SQLite."""
