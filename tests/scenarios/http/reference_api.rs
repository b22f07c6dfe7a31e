//! The reference API, started on a port and called over TCP: two tenants in one place, a third in another.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reference_api::{Api, Passwords, SessionKeys, Sessions, demo::set_password};
use serde_json::{Value, json};
use tenantry_entities::accounts;
use tenantry_repository::{Query, RepositoryExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use uuid::Uuid;

use super::Answer;
use crate::world::{Place, World, on_both_engines};

on_both_engines!(
    accounts_are_written_read_and_found,
    a_neighbours_account_is_not_there,
    what_is_wrong_is_named,
    a_session_is_needed_and_ends,
    nobody_learns_who_exists_by_signing_in,
    a_suspended_tenant_is_refused,
    a_lost_source_is_told_and_its_neighbours_are_served,
    a_write_leaves_who_and_where_from,
);

const PASSWORD: &str = "correct horse battery";

/// The API in a world, until it is dropped.
struct Served {
    world: World,
    address: std::net::SocketAddr,
    /// Where the third tenant is.
    other: Place,
    tenants: [Uuid; 3],
    users: [Uuid; 3],
    _stop: oneshot::Sender<()>,
}

/// Acme and Globex on the default data source, which on PostgreSQL is one for both, and Initech elsewhere.
async fn served(mut world: World) -> Served {
    let other = world.place("initech");
    let tenants =
        [world.tenant("acme").await.id, world.tenant("globex").await.id, world.tenant_on("initech", &other).await.id];
    let passwords = Passwords::new().unwrap();
    let mut users = [Uuid::nil(); 3];
    for (user, tenant) in users.iter_mut().zip(tenants) {
        *user = set_password(&world.tenantry, &passwords, tenant, "ann@example.com", PASSWORD).await.unwrap();
    }
    let sessions = Sessions::new(SessionKeys::random().unwrap(), Duration::from_secs(600));
    let api = Api::new(world.tenantry.clone(), sessions, passwords).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(api.serve(listener, async {
        let _ = stopped.await;
    }));
    Served { world, address, other, tenants, users, _stop: stop }
}

impl Served {
    async fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse::<StatusCode>().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        }
        Answer { status, headers, text: body.to_owned() }
    }

    /// A request with a session's cookie, and with a body where there is one.
    async fn call(&self, cookie: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let form = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nuser-agent: a scenario\r\n\
             cookie: theme=dark; {cookie}\r\n{form}content-length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    async fn sign_in(&self, tenant: &str) -> String {
        let answer = self.try_sign_in(tenant, "ann@example.com", PASSWORD).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let cookie = answer.header("set-cookie");
        for attribute in ["__Host-session=", "; HttpOnly", "; Secure", "; SameSite=Lax", "; Path=/", "; Max-Age=600"] {
            assert!(cookie.contains(attribute), "{attribute} is missing: {cookie}");
        }
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn try_sign_in(&self, tenant: &str, email: &str, password: &str) -> Answer {
        let body = json!({ "tenant": tenant, "email": email, "password": password });
        self.call("", "POST", "/api/session", Some(body)).await
    }

    async fn create(&self, cookie: &str, body: Value) -> Value {
        let answer = self.call(cookie, "POST", "/api/accounts", Some(body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let account = answer.json();
        assert_eq!(answer.header("location"), format!("/api/accounts/{}", account["id"].as_str().unwrap()));
        account
    }

    async fn names(&self, cookie: &str, query: &str) -> Vec<String> {
        let answer = self.call(cookie, "GET", &format!("/api/accounts{query}"), None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // A path is every tenant's; whoever stores its answer on the way must not give it to the next.
        assert_eq!(answer.header("cache-control"), "no-store");
        answer.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn accounts_are_written_read_and_found(world: World) {
    let api = served(world).await;
    let acme = api.sign_in("acme").await;
    let body = json!({ "name": "Ärger & Söhne", "credit_limit": "1200.5", "employee_count": 3, "industry": "tools" });
    let account = api.create(&acme, body).await;
    assert_eq!((&account["credit_limit"], &account["status"]), (&json!("1200.50"), &json!("active")));
    let path = format!("/api/accounts/{}", account["id"].as_str().unwrap());
    assert_eq!(api.call(&acme, "GET", &path, None).await.json(), account);

    let change = json!({ "industry": null, "status": "inactive", "name": "Ärger" });
    let changed = api.call(&acme, "PATCH", &path, Some(change)).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let changed = changed.json();
    assert_eq!(
        (&changed["name"], &changed["industry"], &changed["status"]),
        (&json!("Ärger"), &Value::Null, &json!("inactive"))
    );
    assert_eq!((&changed["credit_limit"], &changed["created_at"]), (&account["credit_limit"], &account["created_at"]));
    assert_eq!(api.call(&acme, "PATCH", &path, Some(json!({}))).await.json()["name"], "Ärger");

    for number in 0..5 {
        api.create(&acme, json!({ "name": format!("Coyote {number}"), "email": format!("{number}@coyote.example") }))
            .await;
    }
    assert_eq!(api.names(&acme, "?search=%C3%A4RGER").await, ["Ärger"], "in whatever case");
    let inactive = "?filter=%7B%22status%22%3A%22inactive%22%7D";
    assert_eq!(api.names(&acme, inactive).await, ["Ärger"]);
    assert_eq!(api.names(&acme, "?search=3%40coyote").await, ["Coyote 3"]);
    assert_eq!(api.names(&acme, "?search=coyote&order=-name&limit=2").await, ["Coyote 4", "Coyote 3"]);
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let page = api
            .call(&acme, "GET", &format!("/api/accounts?search=coyote&order=name&limit=2{after}"), None)
            .await
            .json();
        found.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        // Writes between the pages neither repeat nor skip what was there.
        api.create(&acme, json!({ "name": format!("Coyote 0 {}", found.len()) })).await;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["Coyote 0", "Coyote 1", "Coyote 2", "Coyote 3", "Coyote 4"]);

    assert_eq!(api.call(&acme, "DELETE", &path, None).await.status, 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(api.call(&acme, method, &path, None).await.problem(), (404, "not-found".to_owned()));
    }
}

/// Whatever is tried on a neighbour's id is answered as on one that nobody has.
async fn a_neighbours_account_is_not_there(world: World) {
    let api = served(world).await;
    let cookies = [api.sign_in("acme").await, api.sign_in("globex").await, api.sign_in("initech").await];
    let mut accounts = Vec::new();
    for (cookie, name) in cookies.iter().zip(["acme's", "globex's", "initech's"]) {
        accounts.push(api.create(cookie, json!({ "name": name })).await);
    }
    for (own, cookie) in cookies.iter().enumerate() {
        assert_eq!(api.names(cookie, "").await, [accounts[own]["name"].as_str().unwrap()]);
        for (other, account) in accounts.iter().enumerate().filter(|(other, _)| *other != own) {
            let id = account["id"].as_str().unwrap();
            for (method, body) in [("GET", None), ("PATCH", Some(json!({ "name": "stolen" }))), ("DELETE", None)] {
                let mut answers = Vec::new();
                for id in [id.to_owned(), Uuid::new_v4().to_string(), "nonsense".to_owned()] {
                    let answer = api.call(cookie, method, &format!("/api/accounts/{id}"), body.clone()).await;
                    assert_eq!(answer.problem(), (404, "not-found".to_owned()), "{own} {method} {other}");
                    let mut told = answer.json();
                    told.as_object_mut().unwrap().remove("instance");
                    answers.push(told);
                }
                assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
            }
            let filter = format!("?filter=%7B%22id%22%3A%22{id}%22%7D");
            assert!(api.names(cookie, &filter).await.is_empty());
        }
        // An id may be in use elsewhere: that is nobody's business here.
        let taken = accounts[(own + 1) % 3]["id"].clone();
        api.create(cookie, json!({ "id": taken, "name": "the same id" })).await;
    }
    for (cookie, account) in cookies.iter().zip(&accounts) {
        let path = format!("/api/accounts/{}", account["id"].as_str().unwrap());
        assert_eq!(api.call(cookie, "GET", &path, None).await.json()["name"], account["name"], "nothing was touched");
    }
    // The session says whose the request is, and nothing else is asked.
    let header = format!("x-tenant: {}\r\nx-forwarded-host: globex.example\r\n", api.tenants[1]);
    let asked = format!(
        "GET /api/accounts HTTP/1.1\r\nhost: globex.localhost\r\nconnection: close\r\n{header}cookie: {}\r\n\r\n",
        cookies[0]
    );
    let names = api.send(&asked).await.json();
    assert!(names["items"].as_array().unwrap().iter().all(|item| item["name"] != "globex's"), "{names}");
}

async fn what_is_wrong_is_named(world: World) {
    let api = served(world).await;
    let acme = api.sign_in("acme").await;
    let body =
        json!({ "name": "", "status": "gone", "employee_count": 1.5, "credit_limit": 7, "tenant_id": api.tenants[1] });
    let answer = api.call(&acme, "POST", "/api/accounts", Some(body)).await;
    assert_eq!(answer.problem(), (422, "invalid".to_owned()));
    let told = answer.json();
    let mut pointers: Vec<_> =
        told["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/credit_limit", "/employee_count", "/name", "/status", "/tenant_id"]);

    let account = api.create(&acme, json!({ "name": "one" })).await;
    let again = api.call(&acme, "POST", "/api/accounts", Some(json!({ "id": account["id"], "name": "two" }))).await;
    assert_eq!(again.problem(), (409, "already-exists".to_owned()));
    assert!(!again.text.contains("pkey") && !again.text.contains("accounts"), "{again:?}");

    let path = format!("/api/accounts/{}", account["id"].as_str().unwrap());
    for (method, path, status) in [
        ("GET", "/api/accounts?limit=0", 400),
        ("GET", "/api/accounts?order=tax_id", 400),
        ("GET", "/api/accounts?filter=%7B%22tenant_id%22%3Anull%7D", 400),
        ("GET", "/api/accounts?after=AAAA", 400),
        ("GET", "/api/accounts?page=2", 400),
        ("GET", "/api/accounts?search=%00", 400),
        ("GET", "/api/accounts?search=%FF%FE&search=a", 400),
        ("GET", "/api/nowhere", 404),
        ("PUT", &path, 405),
        ("PATCH", &path, 415),
    ] {
        assert_eq!(api.call(&acme, method, path, None).await.problem().0, status, "{method} {path}");
    }
    let large = json!({ "name": "x".repeat(100_000) });
    assert_eq!(api.call(&acme, "POST", "/api/accounts", Some(large)).await.problem(), (413, "too-large".to_owned()));
    let nul = api.call(&acme, "PATCH", &path, Some(json!({ "notes": "a\u{0}b" }))).await;
    assert_eq!((nul.problem().0, &nul.json()["errors"][0]["pointer"]), (422, &json!("/notes")));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let request = format!(
        "POST /api/accounts HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncookie: {acme}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{deep}",
        deep.len()
    );
    assert_eq!(api.send(&request).await.problem().0, 400);
}

async fn a_session_is_needed_and_ends(world: World) {
    let api = served(world).await;
    let acme = api.sign_in("acme").await;
    let (name, value) = acme.split_once('=').unwrap();
    let (signed, mac) = value.rsplit_once('.').unwrap();
    for cookie in [
        String::new(),
        "session=1".to_owned(),
        format!("{name}="),
        format!("{name}={signed}.{}", mac.chars().rev().collect::<String>()),
        format!("other={value}"),
    ] {
        for (method, path) in [("GET", "/api/accounts"), ("POST", "/api/accounts"), ("DELETE", "/api/session")] {
            let answer = api.call(&cookie, method, path, None).await;
            assert_eq!(answer.problem(), (401, "unauthenticated".to_owned()), "{method} {path} {cookie}");
        }
    }
    let another = api.sign_in("acme").await;
    let ended = api.call(&acme, "DELETE", "/api/session", None).await;
    assert_eq!((ended.status.as_u16(), ended.header("set-cookie").contains("Max-Age=0")), (204, true), "{ended:?}");
    assert_eq!(api.call(&acme, "GET", "/api/accounts", None).await.problem().0, 401, "a kept cookie is worth nothing");
    assert_eq!(api.call(&another, "GET", "/api/accounts", None).await.status, 200, "another session goes on");
    // A new password ends every session that began with the old one; so does a user's suspension.
    let passwords = Passwords::new().unwrap();
    set_password(&api.world.tenantry, &passwords, api.tenants[0], "ann@example.com", "another one").await.unwrap();
    assert_eq!(api.call(&another, "GET", "/api/accounts", None).await.problem().0, 401);
    let globex = api.sign_in("globex").await;
    let of_globex = "tenant_id = (SELECT id FROM tenants WHERE subdomain = 'globex')";
    api.world.app_sql(&format!("UPDATE users SET status = 'suspended' WHERE {of_globex}")).await;
    assert_eq!(api.call(&globex, "GET", "/api/accounts", None).await.problem().0, 401);
}

async fn nobody_learns_who_exists_by_signing_in(world: World) {
    let api = served(world).await;
    let mut answers = Vec::new();
    for (tenant, email, password) in [
        ("acme", "ann@example.com", "wrong"),
        ("acme", "nobody@example.com", PASSWORD),
        ("nobody", "ann@example.com", PASSWORD),
        ("' OR 1=1 --", "ann@example.com", PASSWORD),
        ("acme", "ann@example.com' --", PASSWORD),
    ] {
        let answer = api.try_sign_in(tenant, email, password).await;
        assert_eq!(answer.problem(), (401, "unauthenticated".to_owned()), "{tenant} {email}");
        assert!(!answer.headers.contains_key("set-cookie"));
        let mut told = answer.json();
        told.as_object_mut().unwrap().remove("instance");
        answers.push(told);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert_eq!(api.try_sign_in("ACME", "Ann@Example.com", PASSWORD).await.status, 201, "case is no part of a name");
}

async fn a_suspended_tenant_is_refused(world: World) {
    let api = served(world).await;
    let (acme, globex) = (api.sign_in("acme").await, api.sign_in("globex").await);
    assert_eq!(api.call(&acme, "GET", "/api/accounts", None).await.status, 200);
    // By another process, of which this one's caches know nothing.
    api.world.app_sql("UPDATE tenants SET status = 'suspended' WHERE subdomain = 'acme'").await;
    assert_eq!(api.call(&acme, "GET", "/api/accounts", None).await.problem(), (403, "tenant-inactive".to_owned()));
    assert_eq!(api.try_sign_in("acme", "ann@example.com", PASSWORD).await.problem().1, "tenant-inactive");
    let guess = api.try_sign_in("acme", "ann@example.com", "wrong").await;
    assert_eq!(guess.problem().1, "unauthenticated", "how a tenant is doing is told to those who belong to it");
    assert_eq!(api.call(&globex, "GET", "/api/accounts", None).await.status, 200);
}

async fn a_lost_source_is_told_and_its_neighbours_are_served(world: World) {
    let api = served(world).await;
    let cookies = [api.sign_in("acme").await, api.sign_in("globex").await, api.sign_in("initech").await];
    api.world.lose(&api.other);
    api.world.tenantry.manager().clear_all();
    for (method, path, body) in [
        ("GET", "/api/accounts", None),
        ("POST", "/api/accounts", Some(json!({ "name": "one" }))),
        ("GET", &*format!("/api/accounts/{}", Uuid::new_v4()), None),
    ] {
        let answer = api.call(&cookies[2], method, path, body).await;
        assert_eq!(answer.problem(), (503, "unavailable".to_owned()), "{method} {path}");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1, "{answer:?}");
        assert!(!answer.text.contains("initech") && !answer.text.contains("127.0.0.1"), "{answer:?}");
    }
    for cookie in &cookies[..2] {
        assert_eq!(api.call(cookie, "GET", "/api/accounts", None).await.status, 200);
    }
}

async fn a_write_leaves_who_and_where_from(world: World) {
    let api = served(world).await;
    let acme = api.sign_in("acme").await;
    api.create(&acme, json!({ "name": "logged" })).await;
    let db = api.world.tenantry.tenant(api.tenants[0]).await.unwrap();
    let log = db.write_log(10).await.unwrap();
    let [entry] = &log[..] else { panic!("{log:?}") };
    assert_eq!(entry.actor.as_deref(), Some(&*api.users[0].to_string()), "{entry:?}");
    assert_eq!(entry.client_ip.as_deref(), Some("127.0.0.1"), "{entry:?}");
    assert_eq!(db.repository::<accounts::Entity>().count(&Query::new()).await.unwrap(), 1);
}

/// Every route is in the document, and what it says of sessions is what the routes do.
#[tokio::test]
async fn the_document_has_every_route() {
    let document = reference_api::document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(paths, ["/api/accounts", "/api/accounts/{id}", "/api/openapi.json", "/api/session"]);
    for (path, method, needs_session) in [
        ("/api/accounts", "get", true),
        ("/api/accounts", "post", true),
        ("/api/accounts/{id}", "get", true),
        ("/api/accounts/{id}", "patch", true),
        ("/api/accounts/{id}", "delete", true),
        ("/api/session", "post", false),
        ("/api/session", "delete", true),
    ] {
        let operation = &document["paths"][path][method];
        assert_eq!(operation["security"].is_array(), needs_session, "{method} {path}");
        assert!(operation["responses"]["401"].is_object(), "{method} {path}");
    }
}
