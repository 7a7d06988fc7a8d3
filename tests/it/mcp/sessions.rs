//! Whose a session is, and when it ends.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Fixture, hello, tool_call};
use crate::support::{account, text};

#[tokio::test]
async fn a_session_is_its_accounts_and_not_its_keys() {
    let fixture = Fixture::start(&[]).await;
    let first = fixture.key_of(&fixture.admin).await;
    let stranger = fixture.key_of(&account("other@example.com")).await.text;
    let session = fixture.session(&first.text).await;
    assert_eq!(fixture.call(&first.text, &session).await, 200);

    for method in [Method::POST, Method::GET, Method::DELETE] {
        for session in [&*session, "6f1c0d56-0000-4000-8000-000000000000", "", "caf\u{e9}"] {
            let headers = [("API-Key", &*stranger), ("Mcp-Session-Id", session)];
            let request =
                fixture.request(method.clone(), &headers).json(&tool_call("test_key", &json!({})));
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 404, "{method} {session}");
            assert!(response.text().await.unwrap().contains("no such MCP session"));
        }
    }
    assert_eq!(fixture.call(&first.text, &session).await, 200, "nobody has ended it");
    let twice = [("API-Key", &*first.text), ("Mcp-Session-Id", &*session), ("Mcp-Session-Id", "x")];
    assert_eq!(fixture.post(&twice, &hello().to_string()).await.0, 400);

    // A rotation: the new key goes on where the old one was.
    let second = fixture.manager.rotate(&fixture.admin, &first.id, Duration::ZERO).await;
    let second = text(second.unwrap());
    assert_eq!(fixture.call(&first.text, &session).await, 401);
    assert_eq!(fixture.call(&second, &session).await, 200);

    let headers = [("API-Key", &*second), ("Mcp-Session-Id", &*session)];
    let end = async || fixture.request(Method::DELETE, &headers).send().await.unwrap().status();
    assert!(end().await.is_success());
    assert_eq!(fixture.call(&second, &session).await, 404);
    assert!([StatusCode::NOT_FOUND, StatusCode::ACCEPTED].contains(&end().await));
}

#[tokio::test]
async fn an_accounts_sessions_are_bounded_and_leave_those_of_others_alone() {
    let fixture = Fixture::start(&[]).await;
    let key = fixture.key_of(&fixture.admin).await.text;
    let other = fixture.key_of(&account("other@example.com")).await.text;
    let others = fixture.session(&other).await;
    let mut sessions = Vec::new();
    for _ in 0..25 {
        sessions.push(fixture.session(&key).await);
    }
    assert_eq!(fixture.call(&key, &sessions[0]).await, 200, "all are there, and this is used");
    sessions.push(fixture.session(&key).await);
    assert_eq!(fixture.call(&key, &sessions[1]).await, 404, "unused for the longest time");
    for session in [&sessions[0], &sessions[2], &sessions[25]] {
        assert_eq!(fixture.call(&key, session).await, 200);
    }
    assert_eq!(fixture.call(&other, &others).await, 200);
}

#[tokio::test]
async fn a_session_that_is_ended_by_somebody_else_is_a_404_at_any_moment() {
    let fixture = Fixture::start(&[]).await;
    let key = fixture.key_of(&fixture.admin).await.text;
    let message = tool_call("test_key", &json!({})).to_string();
    let mut unchecked = Vec::new();
    for _ in 0..40 {
        let session = fixture.session(&key).await;
        let headers = [("API-Key", &*key), ("Mcp-Session-Id", &*session)];
        let end = fixture.request(Method::DELETE, &headers).send();
        let calls = [(); 4].map(|()| fixture.post(&headers, &message));
        let stream = async {
            let response = fixture.request(Method::GET, &headers).send().await.unwrap();
            let (status, is_open) = (response.status(), response.status() == 200);
            (status, if is_open { String::new() } else { response.text().await.unwrap() })
        };
        let (_, mut answers, stream) = tokio::join!(end, join_all(calls), stream);
        answers.push(stream);
        answers.retain(|(status, _)| ![200, 404].contains(&status.as_u16()));
        unchecked.append(&mut answers);
    }
    // On a machine that is busy with other tests a lookup may take too long, now and then.
    let is_late = |(status, said): &(StatusCode, String)| {
        *status == 503 && said.contains("could not be checked")
    };
    assert!(unchecked.len() < 3 && unchecked.iter().all(is_late), "{unchecked:?}");
}
