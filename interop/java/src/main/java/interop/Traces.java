package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.trace.TraceContext;
import org.apache.rocketmq.client.trace.TraceDataEncoder;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Clients with {@code enableMsgTrace}: what they and others noted in the trace topic is read by the client's own decoder. The broker has {@code traceTopicEnable}. */
final class Traces {
    private static final String TOPIC = "RMQ_SYS_TRACE_TOPIC";

    private final Clients clients;

    Traces(Clients clients) {
        this.clients = clients;
    }

    void traced() throws Exception {
        String topic = clients.topic("transactions");
        DefaultMQProducer producer = new DefaultMQProducer(clients.group("p_traced"), null, true, TOPIC);
        producer.setNamesrvAddr(clients.nameServer);
        producer.setInstanceName(clients.nextInstance());
        producer.start();
        Message message = new Message(topic, "tag", "traced key", "traced".getBytes(StandardCharsets.UTF_8));
        String id = producer.send(message).getMsgId();
        Map<String, Boolean> seen = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = consumer(topic, seen);
        await(30, "the traced message", () -> seen.containsKey(id));
        List<TraceContext> notes = new ArrayList<>();
        // Before both shut down: the client gives what waits to be noted half a second then, and loses the rest.
        await(60, "notes of sending and consuming", () -> {
            notes.clear();
            notes.addAll(notesOf(id));
            return has(notes, "Pub") && has(notes, "SubBefore") && has(notes, "SubAfter");
        });
        producer.shutdown();
        consumer.shutdown();
        for (TraceContext note : notes) {
            if (note.getTraceType().name().equals("Pub")) {
                check(note.isSuccess() && topic.equals(note.getTraceBeans().get(0).getTopic()), "Pub of " + note.getTraceBeans().get(0).getTopic());
                check(clients.group("p_traced").equals(note.getGroupName()), "Pub by " + note.getGroupName());
                check("DefaultRegion".equals(note.getRegionId()), "region " + note.getRegionId());
            }
        }
    }

    private DefaultMQPushConsumer consumer(String topic, Map<String, Boolean> seen) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(clients.group("traced"), null, new AllocateMessageQueueAveragely(), true, TOPIC);
        consumer.setNamesrvAddr(clients.nameServer);
        consumer.setInstanceName(clients.nextInstance());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "tag");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> seen.put(message.getMsgId(), true));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private static boolean has(List<TraceContext> notes, String type) {
        return notes.stream().anyMatch(note -> note.getTraceType().name().equals(type));
    }

    @SuppressWarnings("deprecation")
    private List<TraceContext> notesOf(String id) {
        List<TraceContext> notes = new ArrayList<>();
        DefaultMQPullConsumer reader = new DefaultMQPullConsumer(clients.group("trace_reader"));
        reader.setNamesrvAddr(clients.nameServer);
        reader.setInstanceName(clients.nextInstance());
        try {
            reader.start();
            for (MessageQueue queue : reader.fetchSubscribeMessageQueues(TOPIC)) {
                List<MessageExt> found = reader.pull(queue, "*", 0, 32).getMsgFoundList();
                for (MessageExt message : found == null ? Collections.<MessageExt>emptyList() : found) {
                    String text = new String(message.getBody(), StandardCharsets.UTF_8);
                    for (TraceContext note : TraceDataEncoder.decoderFromTraceDataString(text)) {
                        if (id.equals(note.getTraceBeans().get(0).getMsgId())) {
                            notes.add(note);
                        }
                    }
                }
            }
        } catch (Exception notYet) {
            notes.clear();
        } finally {
            reader.shutdown();
        }
        return notes;
    }
}
