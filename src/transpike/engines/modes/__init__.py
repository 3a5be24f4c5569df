"""Code for one schedule mode that several engines share."""
