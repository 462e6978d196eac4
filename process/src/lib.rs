//! What every Ratssaal process has: configuration, logs, traces, health, metrics, TLS, ordered shutdown.
//!
//! A process starts in this order: [`config`] is read (a mistake there ends with exit status 64), [`telemetry`] and
//! [`logs`] begin, [`shutdown::on_signals`] gives the token that ends everything, services register their
//! [`metrics`] and [`health`] checks, and [`http::Server`] serves until the token is cancelled.
#![forbid(unsafe_code)]

pub mod config;
pub mod exit;
pub mod grpc;
pub mod health;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod units;
