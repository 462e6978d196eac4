//! Places participants on bridges and keeps each room's ordered event log.
