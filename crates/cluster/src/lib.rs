//! What makes an API server a cluster: controllers, the node agent that runs pods, service addresses, logs
