"""querycache: the query caching layer for code search and RAG."""
