"""`python -m ingest.client`: folders of pictures, and videos. Knows the service by HTTP alone, none of its code."""
