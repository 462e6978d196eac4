//! What every Ratssaal process has: configuration, logs, traces, health, metrics, TLS, ordered shutdown.
