"""The gateway's traces as one reads them: a page, and whether they add up."""
