"""The record of runs: what happened is on it before it matters, so that a run can be resumed after anything."""
