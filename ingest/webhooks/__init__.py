"""`python -m ingest.webhooks`: delivers the outcomes of requests to the URLs that their clients named."""
