"""The read path: tail index, planner, block cache, reader and long polls."""
