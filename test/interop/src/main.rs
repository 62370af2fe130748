//! Talks to the program as the Zentinel proxy does, by the proxy's own client
//! library: shakes hands over the Unix socket, sends the events of a WebSocket
//! upgrade and of MQTT in frames, and reads the decisions.
//!
//! `interop PROGRAM` starts PROGRAM with the configuration that lies beside
//! this file. Ends with 1 at the first answer that is not the expected one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use base64::Engine;
use zentinel_agent_protocol::v2::{AgentClientV2Uds, AgentPool};
use zentinel_agent_protocol::{
    AgentProtocolError, AgentResponse, Decision, HeaderOp, RequestHeadersEvent, RequestMetadata, WebSocketDecision,
    WebSocketFrameEvent,
};

const AGENT: &str = "mqtt-gateway";
const PATIENCE: Duration = Duration::from_secs(120);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The program under test; it ends with this.
struct Program {
    child: Child,
    folder: PathBuf,
    socket: String,
}

impl Program {
    fn start(program: &str) -> Result<Program, Failure> {
        let folder = std::env::temp_dir().join(format!("mqtt-interop-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let beside = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["agent.json", "users.json"] {
            std::fs::copy(beside.join(name), folder.join(name))?;
        }
        let socket = folder.join("agent.sock").to_string_lossy().into_owned();
        let child = Command::new(program)
            .args(["--socket", &socket, "--config"])
            .arg(folder.join("agent.json"))
            .spawn()?;
        Ok(Program { child, folder, socket })
    }

    /// A connection of the lower of the library's two clients.
    async fn connect(&mut self) -> Result<AgentClientV2Uds, Failure> {
        let begun = Instant::now();
        loop {
            let client = AgentClientV2Uds::new(AGENT, self.socket.clone(), PATIENCE).await?;
            match client.connect().await {
                Ok(()) => return Ok(client),
                Err(e) if begun.elapsed() > PATIENCE => return Err(e.into()),
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the program ended with {status}").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Either of the library's clients.
enum Proxy {
    Pool(AgentPool),
    Connection(AgentClientV2Uds),
}

impl Proxy {
    async fn request(&self, e: &RequestHeadersEvent) -> Result<AgentResponse, AgentProtocolError> {
        let id = &e.metadata.correlation_id;
        match self {
            Proxy::Pool(p) => p.send_request_headers(AGENT, id, e).await,
            Proxy::Connection(c) => c.send_request_headers(id, e).await,
        }
    }

    async fn frame(&self, e: &WebSocketFrameEvent) -> Result<AgentResponse, AgentProtocolError> {
        match self {
            Proxy::Pool(p) => p.send_websocket_frame(AGENT, &e.correlation_id, e).await,
            Proxy::Connection(c) => c.send_websocket_frame(&e.correlation_id, e).await,
        }
    }
}

/// One WebSocket behind the proxy.
struct WebSocket<'a> {
    proxy: &'a Proxy,
    id: String,
    sent: [u64; 2], // frames of the server, of the client
}

impl<'a> WebSocket<'a> {
    fn new(proxy: &'a Proxy, id: &str) -> Self {
        WebSocket {
            proxy,
            id: id.into(),
            sent: [0, 0],
        }
    }

    async fn upgrade(&self, extensions: Option<&str>) -> Result<AgentResponse, Failure> {
        let mut headers = HashMap::from(
            [
                ("host", "broker.example"),
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "oTiA8OiHTzy1PqU//Wboog=="),
                ("sec-websocket-protocol", "mqtt"),
            ]
            .map(|(k, v)| (k.to_string(), vec![v.to_string()])),
        );
        if let Some(x) = extensions {
            headers.insert("sec-websocket-extensions".into(), vec![x.into()]);
        }
        let event = RequestHeadersEvent {
            metadata: RequestMetadata {
                correlation_id: self.id.clone(),
                request_id: "7ec57d9a-199c-44a2-be9a-768385c2ed4f".into(),
                client_ip: "198.51.100.7".into(),
                client_port: 40112,
                server_name: None,
                protocol: "HTTP/1.1".into(),
                tls_version: None,
                tls_cipher: None,
                route_id: Some("mqtt-ws".into()),
                upstream_id: None,
                timestamp: "2026-11-24T11:34:50.185+00:00".into(),
                traceparent: None,
            },
            method: "GET".into(),
            uri: "/mqtt".into(),
            headers,
        };
        Ok(self.proxy.request(&event).await?)
    }

    /// The decision about one whole binary frame.
    async fn frame(&mut self, client_to_server: bool, packet: &[u8]) -> Result<WebSocketDecision, Failure> {
        let index = &mut self.sent[usize::from(client_to_server)];
        let event = WebSocketFrameEvent {
            correlation_id: self.id.clone(),
            opcode: "binary".into(),
            data: base64::engine::general_purpose::STANDARD.encode(packet),
            client_to_server,
            frame_index: *index,
            fin: true,
            route_id: Some("mqtt-ws".into()),
            client_ip: "198.51.100.7".into(),
        };
        *index += 1;
        let answer = self.proxy.frame(&event).await?;
        // What is missing the proxy takes for allow, so it must be there.
        answer
            .websocket_decision
            .ok_or_else(|| "the answer has no websocket_decision".into())
    }

    async fn expect(&mut self, what: &str, packet: &[u8], want: WebSocketDecision) -> Result<(), Failure> {
        let got = self.frame(true, packet).await?;
        check(what, got, want)
    }

    async fn admit(&mut self) -> Result<(), Failure> {
        self.expect("CONNECT", &connect("alice", "secret"), WebSocketDecision::Allow)
            .await?;
        check(
            "CONNACK",
            self.frame(false, &[0x20, 2, 0, 0]).await?,
            WebSocketDecision::Allow,
        )
    }
}

fn check<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<(), Failure> {
    if got != want {
        return Err(format!("{what}: {got:?}, want {want:?}").into());
    }
    println!("  {what}: {got:?}");
    Ok(())
}

fn closed(code: u16, d: WebSocketDecision) -> Result<(), Failure> {
    match d {
        WebSocketDecision::Close { code: c, ref reason } if c == code && reason.len() <= 123 => {
            println!("  {d:?}");
            Ok(())
        }
        _ => Err(format!("{d:?}, want a close with {code}").into()),
    }
}

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u16).to_be_bytes()[..], s.as_bytes()].concat()
}

/// A packet of MQTT 3.1.1 of less than 128 bytes.
fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&[first, body.len() as u8][..], &body].concat()
}

fn connect(user: &str, password: &str) -> Vec<u8> {
    packet(
        0x10,
        &[
            &text("MQTT"),
            &[4, 0xC2, 0, 60],
            &text("interop"),
            &text(user),
            &text(password),
        ],
    )
}

fn publish(topic: &str, qos: u8) -> Vec<u8> {
    let id: &[u8] = if qos > 0 { &[0, 9] } else { &[] };
    packet(0x30 | qos << 1, &[&text(topic), id, b"21.5"])
}

fn subscribe(filter: &str) -> Vec<u8> {
    packet(0x82, &[&[0, 7], &text(filter), &[0]])
}

/// All that the proxy asks about a WebSocket.
async fn dialogue(proxy: &Proxy, name: &str) -> Result<(), Failure> {
    use WebSocketDecision::{Allow, Drop};
    let mut ws = WebSocket::new(proxy, name);
    let answer = ws.upgrade(Some("x-other")).await?;
    check("upgrade", answer.decision, Decision::Allow)?;
    check(
        "its header",
        answer.request_headers,
        vec![HeaderOp::Remove {
            name: "sec-websocket-extensions".into(),
        }],
    )?;
    ws.admit().await?;
    ws.expect("PUBLISH, allowed", &publish("interop/alice/t", 1), Allow)
        .await?;
    ws.expect("PUBLISH, denied", &publish("interop/bob/t", 0), Drop).await?;
    ws.expect("PUBLISH, denied, QoS 1", &publish("interop/bob/t", 1), Drop)
        .await?;
    ws.expect("SUBSCRIBE, allowed", &subscribe("interop/alice/#"), Allow)
        .await?;
    check("SUBACK", ws.frame(false, &[0x90, 3, 0, 7, 0]).await?, Allow)?;
    ws.expect("SUBSCRIBE, denied", &subscribe("#"), Drop).await?;
    check(
        "delivery",
        ws.frame(false, &publish("interop/alice/t", 0)).await?,
        Allow,
    )?;
    check(
        "delivery of what was not asked for",
        ws.frame(false, &publish("interop/bob/t", 0)).await?,
        Drop,
    )?;
    ws.expect("PINGREQ", &[0xC0, 0], Allow).await?;

    let same = WebSocket::new(proxy, name).upgrade(None).await?;
    if !matches!(same.decision, Decision::Block { .. }) {
        return Err(format!("a second upgrade with one id: {:?}", same.decision).into());
    }
    closed(1008, same.websocket_decision.ok_or("no websocket_decision")?)?;
    ws.expect("DISCONNECT", &[0xE0, 0], Allow).await?;

    let deflate = WebSocket::new(proxy, &format!("{name}-deflate"))
        .upgrade(Some("permessage-deflate"))
        .await?;
    match deflate.decision {
        Decision::Block {
            status: 400,
            body: Some(ref b),
            ..
        } if b.contains("permessage-deflate") => {}
        d => return Err(format!("permessage-deflate: {d:?}").into()),
    }
    let mut wrong = WebSocket::new(proxy, &format!("{name}-wrong"));
    check("upgrade", wrong.upgrade(None).await?.decision, Decision::Allow)?;
    closed(1008, wrong.frame(true, &connect("alice", "guess")).await?)
}

/// Many WebSockets at once over one pool: every answer goes to its event.
async fn crowd(pool: AgentPool) -> Result<(), Failure> {
    let proxy = std::sync::Arc::new(Proxy::Pool(pool));
    let mut all = Vec::new();
    for n in 0..64 {
        let proxy = proxy.clone();
        all.push(tokio::spawn(async move {
            let mut ws = WebSocket::new(&proxy, &format!("crowd-{n}"));
            ws.upgrade(None).await?;
            let hello = packet(
                0x10,
                &[
                    &text("MQTT"),
                    &[4, 0xC2, 0, 60],
                    &text(&format!("crowd-{n}")),
                    &text("alice"),
                    &text("secret"),
                ],
            );
            for (packet, from_client, want) in [
                (hello, true, WebSocketDecision::Allow),
                (vec![0x20, 2, 0, 0], false, WebSocketDecision::Allow),
            ] {
                let got = ws.frame(from_client, &packet).await?;
                if got != want {
                    return Err(format!("crowd-{n}: {got:?}").into());
                }
            }
            for i in 0..100 {
                let (topic, want) = match (n + i) % 2 {
                    0 => ("interop/alice/t", WebSocketDecision::Allow),
                    _ => ("interop/bob/t", WebSocketDecision::Drop),
                };
                let got = ws.frame(true, &publish(topic, 0)).await?;
                if got != want {
                    return Err(format!("crowd-{n}: {got:?}, want {want:?}").into());
                }
            }
            Ok::<(), Failure>(())
        }));
    }
    for one in all {
        one.await??;
    }
    Ok(())
}

async fn run(program: &str) -> Result<(), Failure> {
    let mut agent = Program::start(program)?;
    println!("AgentClientV2Uds");
    let client = agent.connect().await?;
    let caps = client.capabilities().await.ok_or("no capabilities")?;
    println!("  {caps:?}");
    dialogue(&Proxy::Connection(client), "lower").await?;

    println!("AgentPool");
    let pool = AgentPool::new();
    pool.add_agent(AGENT, agent.socket.clone()).await?;
    let proxy = Proxy::Pool(pool);
    dialogue(&proxy, "pool").await?;

    println!("a crowd");
    let pool = AgentPool::new();
    pool.add_agent(AGENT, agent.socket.clone()).await?;
    crowd(pool).await?;

    println!("configuration");
    let pool = AgentPool::new();
    let good = serde_json::json!({"acl": {"default-action": "deny"}});
    pool.add_agent_with_config(AGENT, agent.socket.clone(), Some(good))
        .await?;
    dialogue(&Proxy::Pool(pool), "configured").await?;
    let mut client = AgentClientV2Uds::new(AGENT, agent.socket.clone(), PATIENCE).await?;
    client.set_config(Some(serde_json::json!({"acl": {"default-actoin": "deny"}})));
    match client.connect().await {
        Err(e) if e.to_string().contains("default-actoin") => println!("  refused: {e}"),
        other => return Err(format!("a wrong configuration: {other:?}").into()),
    }
    Ok(())
}

#[tokio::main]
async fn main() {
    let Some(program) = std::env::args().nth(1) else {
        eprintln!("usage: interop PROGRAM");
        std::process::exit(2);
    };
    if let Err(e) = run(&program).await {
        eprintln!("interop: {e}");
        std::process::exit(1);
    }
    println!("ok");
}
