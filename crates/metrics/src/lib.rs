//! Exposition text, series, normal form, diff, relabelling and the Prometheus HTTP API
