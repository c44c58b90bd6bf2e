//! Faults on a Kubernetes API: matching, budgets, verdicts, ledger and the proxy that applies them
