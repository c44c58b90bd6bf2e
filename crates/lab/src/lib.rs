//! Providers, tools, state on disk and the command line
