//! `null SOCKET`: an agent on the proxy's own library that answers allow to
//! every frame without looking. What `bench/agent --library` compares with.

use async_trait::async_trait;
use zentinel_agent_protocol::v2::{AgentCapabilities, AgentHandlerV2, UdsAgentServerV2};
use zentinel_agent_protocol::{AgentResponse, WebSocketFrameEvent};

struct Null;

#[async_trait]
impl AgentHandlerV2 for Null {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("null", "null", "0")
    }

    async fn on_websocket_frame(&self, _: WebSocketFrameEvent) -> AgentResponse {
        AgentResponse::websocket_allow()
    }
}

#[tokio::main]
async fn main() {
    let socket = std::env::args().nth(1).expect("usage: null SOCKET");
    let server = UdsAgentServerV2::new("null", socket, Box::new(Null));
    server.run().await.expect("serve");
}
