//! The scenario language: parse, resolve, plan; expectations and their verdicts
