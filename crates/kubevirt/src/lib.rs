//! The simulated KubeVirt components and the metric catalogue of each release
