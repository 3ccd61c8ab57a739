//! Registering, logging in, tokens.

use serde_json::{Value, json};
use throng_control::{Rate, Seeding, seed_users};

use crate::stage::{Stage, stage, stage_with};

fn credentials(username: &str, password: &str) -> Value {
    json!({ "username": username, "password": password })
}

#[test]
fn who_registers_can_log_in_and_is_somebody() {
    let stage = stage();
    let body = credentials("alice", "correct horse");
    let registered = stage.post("", "/api/auth/register", &body).expect(201);
    let user = registered["user"].clone();
    assert_eq!(user["username"], "alice");
    assert_eq!(user["discriminator"].as_str().unwrap().len(), 4);
    assert_eq!(user["avatarUrl"], Value::Null);
    assert!(registered.to_string().find("password").is_none());

    let logged_in = stage.post("", "/api/auth/login", &body).expect(200);
    assert_eq!(logged_in["user"], user);
    for token in [&registered["token"], &logged_in["token"]] {
        let me = stage
            .get(token.as_str().unwrap(), "/api/users/@me")
            .expect(200);
        assert_eq!(me, json!({ "user": user }));
    }
}

#[test]
fn bad_input_names_every_wrong_field() {
    let stage = stage();
    let check = |body: Value, paths: &[&str]| {
        let refused = stage.post("", "/api/auth/register", &body);
        let refused = refused.refused(400, "VALIDATION_ERROR");
        let details = refused["details"].as_array().unwrap();
        let found: Vec<_> = details
            .iter()
            .map(|one| one["path"].as_str().unwrap())
            .collect();
        assert_eq!(found, paths, "{body}");
        assert!(details.iter().all(|one| one["message"].is_string()));
    };
    check(json!({}), &["username", "password"]);
    check(credentials("a", "correct horse"), &["username"]);
    check(credentials("Alice", "correct horse"), &["username"]);
    check(credentials("alice", "short"), &["password"]);
    check(credentials("a b", ""), &["username", "password"]);
    check(
        json!({ "username": 7, "password": "correct horse" }),
        &["username"],
    );
    check(
        json!({ "username": null, "password": ["x"] }),
        &["username", "password"],
    );
    check(json!([1, 2]), &[""]);
}

#[test]
fn one_name_is_given_once() {
    let stage = stage();
    let body = credentials("popular", "correct horse");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| stage.post("", "/api/auth/register", &body).status))
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 409).count(),
        7,
        "{statuses:?}"
    );
    stage
        .post("", "/api/auth/register", &body)
        .refused(409, "CONFLICT");
}

#[test]
fn a_failed_login_does_not_say_why() {
    let stage = stage();
    stage.user("alice");
    seed_one(&stage, 60);
    let wrong = stage.post("", "/api/auth/login", &credentials("alice", "wrong horse"));
    let wrong = wrong.refused(401, "UNAUTHORIZED");
    let unknown = stage.post(
        "",
        "/api/auth/login",
        &credentials("nobody", "correct horse"),
    );
    assert_eq!(unknown.refused(401, "UNAUTHORIZED"), wrong);
}

#[test]
fn a_seeded_account_has_no_password() {
    let stage = stage();
    let token = seed_one(&stage, 60);
    let me = stage.get(&token, "/api/users/@me").expect(200);
    let name = me["user"]["username"].as_str().unwrap();
    assert!(name.starts_with("seed_") && name.len() <= 32);
    for password in ["correct horse", "null null", "        "] {
        let login = stage.post("", "/api/auth/login", &credentials(name, password));
        login.refused(401, "UNAUTHORIZED");
    }
}

fn seed_one(stage: &Stage, token_ttl_s: u64) -> String {
    let mut out = Vec::new();
    let seeding = Seeding {
        count: 1,
        token_ttl_s,
        ..Seeding::default()
    };
    let data = stage.dir.path().join("data");
    seed_users(&data, &seeding, &mut out, |_| {}).unwrap();
    String::from_utf8(out).unwrap().trim_end().to_owned()
}

#[test]
fn only_good_tokens_are_taken() {
    let stage = stage();
    let good = stage.user("alice");
    let expired = seed_one(&stage, 0);
    let of_another_key = crate::stage::stage().user("alice");
    let claims = good.split('.').nth(1).unwrap();
    // {"alg":"none","typ":"JWT"}
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
    let mut forged = good.clone();
    forged.pop();
    for token in [
        &expired,
        &of_another_key,
        &unsigned,
        &forged,
        "",
        "x",
        &"y".repeat(8000),
    ] {
        for path in ["/api/users/@me", "/api/guilds"] {
            stage.get(token, path).refused(401, "UNAUTHORIZED");
        }
        stage
            .post(token, "/api/guilds", &json!({ "name": "mine" }))
            .refused(401, "UNAUTHORIZED");
    }
    stage.get(&good, "/api/users/@me").expect(200);
}

#[test]
fn registrations_per_address_are_limited() {
    let stage = stage_with(|config| config.limits.register = Rate::new(3, 3600));
    for name in ["one", "two", "three"] {
        stage.user(name);
    }
    let fourth = stage.post(
        "",
        "/api/auth/register",
        &credentials("four", "correct horse"),
    );
    let seconds: u64 = fourth.retry_after.as_ref().unwrap().parse().unwrap();
    assert!((1..=3600).contains(&seconds));
    let body = fourth.refused(429, "RATE_LIMITED");
    assert!(body["retryAfterMs"].as_u64().unwrap() <= 3_600_000);
}

#[test]
fn failed_logins_per_address_are_limited_and_good_ones_are_not() {
    let stage = stage_with(|config| config.limits.login_failures = Rate::new(2, 3600));
    stage.user("alice");
    let good = credentials("alice", "correct horse");
    let bad = credentials("alice", "wrong horse");
    for _ in 0..5 {
        stage.post("", "/api/auth/login", &good).expect(200);
    }
    for _ in 0..2 {
        stage.post("", "/api/auth/login", &bad).expect(401);
    }
    stage
        .post("", "/api/auth/login", &bad)
        .refused(429, "RATE_LIMITED");
}
