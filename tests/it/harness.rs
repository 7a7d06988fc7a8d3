//! The servers themselves: each starts, answers, keeps its data through a kill, and can be silenced.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::servers::postgres::{Postgres, number};
use crate::servers::process::Process;
use crate::servers::{Disk, PgBouncer, Redis, Wire, free_port, local};
use crate::support::{Program, soon};

async fn is_silent(work: impl Future) -> bool {
    timeout(Duration::from_millis(300), work).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_its_data_through_kills_and_can_be_silenced() {
    let Some(server) = Postgres::options().durable().start() else { return };
    let name = server.new_database().await;
    let url = server.url(&name);
    assert_ne!(server.new_database().await, name);
    server.execute(&name, "CREATE TABLE kept (n bigint)").await;
    for round in 1..=3 {
        server.execute(&name, "INSERT INTO kept VALUES (1)").await;
        server.kill();
        assert!(TcpStream::connect(local(server.port())).await.is_err(), "it is gone");
        server.restart();
        assert_eq!(number(&url, "SELECT count(*) FROM kept").await.unwrap(), round);
    }
    server.pause();
    assert!(is_silent(number(&url, "SELECT 1::bigint")).await);
    server.resume();
    assert_eq!(soon(number(&url, "SELECT 1::bigint")).await.unwrap(), 1);
    // Also while it is paused, it can be killed.
    server.pause();
    server.kill();
    server.restart();
    assert_eq!(number(&url, "SELECT count(*) FROM kept").await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_asks_for_tls_and_a_password() {
    let Some(server) = Postgres::options().tls().password().start() else { return };
    let url = server.fresh_database().await;
    assert_eq!(number(&url, "SELECT 1::bigint").await.unwrap(), 1);
    let (start, end) = url.split_once('?').unwrap();
    assert!(number(&format!("{start}?sslmode=disable"), "SELECT 1::bigint").await.is_err());
    let wrong = format!("{}?{end}", start.replace("pass", "fail"));
    assert!(number(&wrong, "SELECT 1::bigint").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_passes_statements_on() {
    let Some(server) = Postgres::shared() else { return };
    let Some(pooler) = PgBouncer::start(server) else { return };
    let name = server.new_database().await;
    assert_eq!(number(&pooler.url(&name), "SELECT 1::bigint").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_its_data_through_kills_and_can_be_silenced() {
    let Some(server) = Redis::start(&Redis::DURABLE) else { return };
    let port = server.port();
    for round in 1..=3 {
        assert_eq!(server.say("INCR kept").await, format!(":{round}"));
        server.kill();
        assert!(TcpStream::connect(local(port)).await.is_err(), "it is gone");
        server.restart();
    }
    assert_ne!(server.fresh_database(), server.fresh_database());
    server.pause();
    assert!(is_silent(server.say("PING")).await);
    server.resume();
    assert_eq!(server.say("GET kept").await, "$1\r\n3");
}

/// A server that sends back what it gets.
async fn echo() -> u16 {
    let listener = tokio::net::TcpListener::bind(local(0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

async fn echoed(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_is_cut_silenced_and_healed() {
    let wire = Wire::to(echo().await).await;
    let connect = || TcpStream::connect(local(wire.port()));
    let mut stream = connect().await.unwrap();
    assert_eq!(echoed(&mut stream, b"hello").await.unwrap(), b"hello");
    assert_eq!(wire.passed(), 5);

    wire.blackhole();
    let mut waiting = connect().await.unwrap();
    assert!(is_silent(echoed(&mut stream, b"held back")).await);
    assert!(is_silent(echoed(&mut waiting, b"held back")).await);
    wire.heal().await;
    let mut late = [0; 9];
    for stream in [&mut stream, &mut waiting] {
        soon(stream.read_exact(&mut late)).await.unwrap();
        assert_eq!(&late, b"held back");
    }

    wire.cut().await;
    assert!(soon(echoed(&mut stream, b"x")).await.is_err());
    assert!(connect().await.is_err(), "refused");
    wire.heal().await;
    let mut stream = connect().await.unwrap();
    assert_eq!(soon(echoed(&mut stream, b"again")).await.unwrap(), b"again");

    let before = wire.passed();
    wire.cut_after(3);
    assert_eq!(soon(echoed(&mut stream, b"12")).await.unwrap(), b"12");
    assert!(soon(echoed(&mut stream, b"3456")).await.is_err());
    assert_eq!(wire.passed() - before, 3);
    assert!(connect().await.is_err(), "it stays cut");
    wire.heal().await;
    let mut stream = connect().await.unwrap();
    assert_eq!(soon(echoed(&mut stream, b"again")).await.unwrap(), b"again");
}

#[test]
fn a_disk_fills_and_gives_its_room_back() {
    let Some(disk) = Disk::of_megabytes(2) else { return };
    let file = disk.path().join("file");
    fs::write(&file, vec![1; 10_000]).unwrap();
    disk.fill();
    assert!(fs::write(disk.path().join("other"), vec![1; 10_000]).is_err());
    assert_eq!(fs::read(&file).unwrap().len(), 10_000);
    disk.free();
    fs::write(disk.path().join("other"), vec![1; 10_000]).unwrap();

    let Some(view) = Disk::read_only(disk.path()) else { return };
    assert_eq!(fs::read(view.path().join("file")).unwrap().len(), 10_000);
    assert!(fs::write(view.path().join("file"), "x").is_err());
    let (mounted, seen) = (disk.path().to_owned(), view.path().to_owned());
    drop(view);
    assert!(!seen.exists() && file.exists());
    drop(disk);
    assert!(!mounted.exists());
}

/// Asks for the next function.
const CHILD: &str = "TOWER_API_KEY_TEST_ORPHANS";

/// Not a test unless it is started by the next one: starts servers, and waits to be killed.
#[tokio::test(flavor = "multi_thread")]
async fn starting_servers_until_killed() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (postgres, redis) = (Postgres::shared(), Redis::shared());
    let folders = [postgres.map(Postgres::log), redis.map(Redis::log)];
    let ports = [postgres.map(Postgres::port), redis.map(Redis::port)];
    // A connection, so that there are children that do not wait for anything to begin.
    if let Some(server) = postgres {
        server.new_database().await;
        server.pause();
    }
    for (log, port) in folders.into_iter().flatten().zip(ports.into_iter().flatten()) {
        println!("server {port} {}", log.parent().unwrap().display());
    }
    println!("started");
    std::thread::sleep(Duration::from_mins(1));
}

#[tokio::test]
async fn nothing_outlives_a_killed_test_process() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "harness::starting_servers_until_killed", "--nocapture"]);
    let mut program = Program::run(command.env(CHILD, "1"));
    program.line(|line| line.ends_with("started"));
    program.signal("-KILL");
    let (_, stdout, _) = program.end();
    let servers = stdout.lines().filter_map(|line| line.split_once("server "));
    for (_, server) in servers {
        let (port, folder) = server.split_once(' ').unwrap();
        let is_gone = async || {
            let refused = TcpStream::connect(local(port.parse().unwrap())).await.is_err();
            refused && !std::path::Path::new(folder).exists()
        };
        soon(async {
            while !is_gone().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

#[test]
fn a_process_that_ends_before_it_is_ready_says_why() {
    let folder = crate::servers::folder::Folder::new();
    let mut command = Command::new("sh");
    command.args(["-c", "echo no reason >&2"]).stdin(Stdio::null());
    let mut process = Process::start(&mut command, &folder.path().join("log"), "KILL");
    let said = process.until(|_| false).unwrap_err();
    assert!(said.contains("no reason") && said.contains("ended: true"), "{said}");
}

#[test]
fn free_ports_differ() {
    assert_ne!(free_port(), free_port());
}
