import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.hivemq.client.mqtt.MqttClient;
import com.hivemq.client.mqtt.MqttClientBuilder;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3AsyncClient;
import com.hivemq.client.mqtt.mqtt3.message.connect.Mqtt3Connect;
import com.hivemq.client.mqtt.mqtt3.message.connect.Mqtt3ConnectBuilder;
import com.hivemq.client.mqtt.mqtt3.message.publish.Mqtt3Publish;
import com.hivemq.client.mqtt.mqtt3.message.subscribe.Mqtt3Subscription;
import com.hivemq.client.mqtt.mqtt3.message.subscribe.Mqtt3Subscribe;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserProperties;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserPropertiesBuilder;
import com.hivemq.client.mqtt.mqtt5.exceptions.Mqtt5ConnAckException;
import com.hivemq.client.mqtt.mqtt3.exceptions.Mqtt3ConnAckException;
import com.hivemq.client.mqtt.mqtt5.message.connect.Mqtt5Connect;
import com.hivemq.client.mqtt.mqtt5.message.connect.Mqtt5ConnectBuilder;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PayloadFormatIndicator;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.subscribe.Mqtt5Subscribe;
import com.hivemq.client.mqtt.mqtt5.message.subscribe.Mqtt5Subscription;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * The HiveMQ client as a worker: a request a line on standard input, an answer a line on standard output, both JSON.
 * clients_test.go says what they mean.
 */
public class HiveWorker {
    static final ObjectMapper JSON = new ObjectMapper();
    static final long PATIENCE = 120;

    final ArrayNode messages = JSON.createArrayNode();
    String gone = "";
    boolean leaving;
    Mqtt3AsyncClient v3;
    Mqtt5AsyncClient v5;

    public static void main(String[] args) throws Exception {
        Map<String, HiveWorker> connections = new HashMap<>();
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            JsonNode job = JSON.readTree(line);
            String conn = job.get("conn").asText();
            if (job.get("op").asText().equals("connect")) {
                connections.put(conn, new HiveWorker());
            }
            ObjectNode answer = JSON.createObjectNode();
            try {
                connections.get(conn).run(job, answer);
            } catch (Exception e) { // whatever it is, the test is to see it
                answer.put("error", String.valueOf(e.getCause() == null ? e : e.getCause()));
            }
            out.println(JSON.writeValueAsString(answer));
        }
        System.exit(0);
    }

    void run(JsonNode job, ObjectNode answer) throws Exception {
        switch (job.get("op").asText()) {
            case "connect" -> connect(job, answer);
            case "subscribe" -> subscribe(job, answer);
            case "publish" -> publish(job);
            case "receive" -> receive(job, answer);
            case "disconnect" -> disconnect();
            default -> throw new IllegalArgumentException(job.get("op").asText());
        }
    }

    static <T> T await(CompletableFuture<T> f) throws Exception {
        return f.get(PATIENCE, TimeUnit.SECONDS);
    }

    static MqttQos qos(JsonNode m) {
        return MqttQos.fromCode(m.get("qos").asInt());
    }

    static byte[] payload(JsonNode m) {
        return m.get("payload").asText().getBytes(StandardCharsets.UTF_8);
    }

    void connect(JsonNode job, ObjectNode answer) throws Exception {
        URI url = URI.create(job.get("url").asText());
        MqttClientBuilder b = MqttClient.builder().identifier(job.get("id").asText()).serverHost(url.getHost()).serverPort(url.getPort())
                .addDisconnectedListener(c -> lost(c.getCause()));
        if (url.getScheme().equals("ws")) {
            b = b.webSocketConfig().serverPath(url.getPath().substring(1)).applyWebSocketConfig();
        }
        boolean clean = job.get("clean").asBoolean();
        JsonNode will = job.get("will");
        answer.put("code", 0);
        if (job.get("version").asText().equals("5.0")) {
            v5 = b.useMqttVersion5().buildAsync();
            v5.publishes(MqttGlobalPublishFilter.ALL, this::received);
            Mqtt5ConnectBuilder c = Mqtt5Connect.builder().cleanStart(clean).sessionExpiryInterval(job.get("expiry").asLong()).keepAlive(30);
            if (will != null) {
                c = c.willPublish(Mqtt5Publish.builder().topic(will.get("topic").asText()).qos(qos(will))
                        .retain(will.get("retain").asBoolean()).payload(payload(will)).build().asWill());
            }
            try {
                answer.put("present", await(v5.connect(c.build())).isSessionPresent());
            } catch (ExecutionException e) {
                if (!(e.getCause() instanceof Mqtt5ConnAckException refused)) throw e;
                answer.put("code", refused.getMqttMessage().getReasonCode().getCode());
            }
            return;
        }
        v3 = b.useMqttVersion3().buildAsync();
        v3.publishes(MqttGlobalPublishFilter.ALL, this::received);
        Mqtt3ConnectBuilder c = Mqtt3Connect.builder().cleanSession(clean).keepAlive(30);
        if (will != null) {
            c = c.willPublish(Mqtt3Publish.builder().topic(will.get("topic").asText()).qos(qos(will))
                    .retain(will.get("retain").asBoolean()).payload(payload(will)).build());
        }
        try {
            answer.put("present", await(v3.connect(c.build())).isSessionPresent());
        } catch (ExecutionException e) {
            if (!(e.getCause() instanceof Mqtt3ConnAckException refused)) throw e;
            answer.put("code", refused.getMqttMessage().getReturnCode().getCode());
        }
    }

    synchronized void lost(Throwable cause) {
        if (!leaving) {
            gone = String.valueOf(cause);
        }
        notifyAll();
    }

    void received(Mqtt3Publish p) {
        add(p.getTopic().toString(), p.getPayloadAsBytes(), p.getQos(), p.isRetain());
    }

    void received(Mqtt5Publish p) {
        synchronized (this) {
            ObjectNode m = add(p.getTopic().toString(), p.getPayloadAsBytes(), p.getQos(), p.isRetain());
            p.getContentType().ifPresent(v -> m.put("content_type", v.toString()));
            p.getResponseTopic().ifPresent(v -> m.put("response_topic", v.toString()));
            p.getCorrelationData().ifPresent(v -> m.put("correlation", StandardCharsets.UTF_8.decode(v).toString()));
            p.getPayloadFormatIndicator().ifPresent(v -> m.put("format", v.getCode()));
            p.getUserProperties().asList().forEach(u -> m.withArray("user").addArray().add(u.getName().toString()).add(u.getValue().toString()));
        }
    }

    synchronized ObjectNode add(String topic, byte[] payload, MqttQos qos, boolean retain) {
        ObjectNode m = messages.addObject().put("topic", topic).put("payload", new String(payload, StandardCharsets.UTF_8))
                .put("qos", qos.getCode()).put("retain", retain);
        notifyAll();
        return m;
    }

    void subscribe(JsonNode job, ObjectNode answer) throws Exception {
        List<String> filters = new ArrayList<>();
        job.get("filters").forEach(f -> filters.add(f.asText()));
        ArrayNode granted = answer.putArray("granted");
        if (v5 != null) {
            await(v5.subscribe(Mqtt5Subscribe.builder().addSubscriptions(filters.stream().map(
                    f -> Mqtt5Subscription.builder().topicFilter(f).qos(qos(job)).build()).collect(Collectors.toList())).build()))
                    .getReasonCodes().forEach(c -> granted.add(c.getCode()));
            return;
        }
        await(v3.subscribe(Mqtt3Subscribe.builder().addSubscriptions(filters.stream().map(
                f -> Mqtt3Subscription.builder().topicFilter(f).qos(qos(job)).build()).collect(Collectors.toList())).build()))
                .getReturnCodes().forEach(c -> granted.add(c.getCode()));
    }

    void publish(JsonNode job) throws Exception {
        List<CompletableFuture<?>> all = new ArrayList<>();
        for (JsonNode m : job.get("messages")) {
            if (v5 == null) {
                all.add(v3.publish(Mqtt3Publish.builder().topic(m.get("topic").asText()).qos(qos(m))
                        .retain(m.get("retain").asBoolean()).payload(payload(m)).build()));
                continue;
            }
            Mqtt5UserPropertiesBuilder user = Mqtt5UserProperties.builder();
            if (m.has("user")) {
                m.get("user").forEach(u -> user.add(u.get(0).asText(), u.get(1).asText()));
            }
            all.add(v5.publish(Mqtt5Publish.builder().topic(m.get("topic").asText()).qos(qos(m)).retain(m.get("retain").asBoolean())
                    .payload(payload(m))
                    .contentType(m.has("content_type") ? m.get("content_type").asText() : null)
                    .responseTopic(m.has("response_topic") ? m.get("response_topic").asText() : null)
                    .correlationData(m.has("correlation") ? ByteBuffer.wrap(m.get("correlation").asText().getBytes(StandardCharsets.UTF_8)) : null)
                    .payloadFormatIndicator(m.has("format") ? Mqtt5PayloadFormatIndicator.fromCode(m.get("format").asInt()) : null)
                    .userProperties(user.build()).build()));
        }
        for (CompletableFuture<?> one : all) {
            await(one);
        }
    }

    synchronized void receive(JsonNode job, ObjectNode answer) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE);
        while (messages.size() < job.get("count").asInt() && gone.isEmpty()) {
            long left = TimeUnit.NANOSECONDS.toMillis(end - System.nanoTime());
            if (left <= 0) {
                break;
            }
            wait(left);
        }
        answer.set("messages", messages.deepCopy());
        answer.put("gone", gone);
    }

    void disconnect() throws Exception {
        synchronized (this) {
            leaving = true;
        }
        await(v5 == null ? v3.disconnect() : v5.disconnect());
    }
}
