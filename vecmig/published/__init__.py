"""What applications read: the live view, the search function, and the connections of searches.

Other packages use these modules; the rest is for themselves.
"""

__all__ = ["detaching", "live_view", "pool"]
