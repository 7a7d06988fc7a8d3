//! Everything that is tested from outside, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test, a panic is the report"
)]

mod allocations;
mod asks;
mod axum;
mod browser;
mod cache;
mod cli;
mod console;
mod contract;
mod contract_broken;
mod decision;
mod ends;
mod examples;
mod faults;
mod forgery;
mod grpc;
mod harness;
mod hashing;
mod import;
mod leaks;
mod manage_api;
mod manage_page;
mod manager;
mod mcp;
mod memory;
mod openapi;
mod postgres;
mod redis;
mod replicas;
mod server;
mod server_memory;
mod servers;
mod sockets;
mod sqlite;
mod standards;
mod support;
mod testing;
mod tidy;
mod usage;
mod verifier;
mod witness;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;
