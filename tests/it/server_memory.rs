//! What the example server leaves of its key in its memory: what is beyond this crate, the buffers of HTTP and TLS.
#![cfg(target_os = "linux")]

use std::process::Command;

use crate::memory::traces;

/// With and without glibc's overwriting of what is freed.
#[tokio::test]
#[ignore = "it is for the figures in SECURITY.md, which it prints"]
async fn what_the_example_server_leaves_of_its_key() {
    for perturbed in [false, true] {
        let folder = crate::servers::folder::Folder::new();
        let mut command = Command::new(crate::support::path_of("server"));
        command.args(["--http-addr", "127.0.0.1:0"]);
        if perturbed {
            command.env("MALLOC_PERTURB_", "165");
        }
        let server = crate::server::Server::run(&mut command, folder.path());
        let key = server.key();
        let key = key.trim_end().strip_prefix("API-Key: ").unwrap();
        let middle = &key.as_bytes()[key.len() - 40..key.len() - 10];
        let copies = || {
            let traces = traces(server.program.process(), middle);
            traces.iter().filter(|(length, _)| *length >= middle.len()).count()
        };
        let uri = format!("https://{}/v2/test", server.https);
        let ask = async |times: usize| {
            let client = crate::mcp::http_client(&folder);
            for _ in 0..times {
                let answer = client.get(&uri).header("API-Key", key).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                let _ = answer.bytes().await.unwrap();
            }
            client
        };
        let begun = copies();
        assert_eq!(begun, 0, "it was shown, and is kept nowhere");
        let client = ask(51).await;
        let open = copies();
        drop(client);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let closed = copies();
        for _ in 0..100 {
            drop(ask(1).await);
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let after = copies();
        println!(
            "overwritten when freed: {perturbed}; {begun} copies after the start, {open} after 51 requests on one \
             connection, {closed} when it is closed, {after} after 100 more connections"
        );
        assert!(!perturbed || (closed, after) == (0, 0), "a copy that is not freed");
    }
}
