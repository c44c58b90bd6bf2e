//! monitoring.coreos.com objects to prometheus.yml, rule files and StatefulSets
