def rate_codes(): return []
