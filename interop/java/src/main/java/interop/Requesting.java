package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.producer.RequestResponseFuture;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages that are answered by message. */
final class Requesting {
    private static final int COUNT = 40;
    private static final int TTL_MS = 20_000;
    private static final int HEARTBEAT_MS = 3_000;
    private static final int SYSTEM_ERROR = 1;

    private final Clients clients;

    Requesting(Clients clients) {
        this.clients = clients;
    }

    void run(Scenarios scenarios) throws Exception {
        String topic = clients.topic("requested");
        DefaultMQProducer asker = clients.producer("asker", HEARTBEAT_MS);
        DefaultMQProducer replier = clients.producer("replier");
        AtomicReference<MessageExt> last = new AtomicReference<>();
        AtomicReference<Exception> failure = new AtomicReference<>();
        DefaultMQPushConsumer consumer = clients.consumer("requested");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                last.set(message);
                if (message.getProperty("CORRELATION_ID") == null) {
                    continue;
                }
                try {
                    String said = new String(message.getBody(), StandardCharsets.UTF_8);
                    replier.send(MessageUtil.createReplyMessage(message, (said + "!").getBytes(StandardCharsets.UTF_8)));
                } catch (Exception error) {
                    failure.set(error);
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        // The first requests would else wait for the consumer's first share of the queues.
        replier.send(message(topic, "plain"));
        await(60, "the first message", () -> last.get() != null);
        heardOf(asker, topic);
        failure.set(null);
        scenarios.run("request-sync", () -> sync(asker, topic));
        scenarios.run("request-async", () -> async(asker, topic));
        scenarios.run("request-refused", () -> refused(replier, last.get()));
        check(failure.get() == null, "a reply failed: " + failure.get());
        consumer.shutdown();
        scenarios.run("request-unanswered", () -> unanswered(asker, clients.topic("send")));
        asker.shutdown();
        replier.shutdown();
    }

    /**
     * Waits until the server knows the asker: no server can pass a reply to a client that it has not heard of. A producer that knows the route
     * sends no heartbeat before it asks, and the one with a new route is dropped when the regular one, to the brokers known before, is under way.
     */
    private static void heardOf(DefaultMQProducer asker, String topic) throws InterruptedException {
        AtomicBoolean heard = new AtomicBoolean();
        AtomicBoolean asking = new AtomicBoolean();
        await(60, "a reply to the asker", () -> {
            if (!heard.get() && asking.compareAndSet(false, true)) {
                ask(asker, message(topic, "heard?"), heard, asking);
            }
            return heard.get();
        });
    }

    private static void ask(DefaultMQProducer asker, Message question, AtomicBoolean heard, AtomicBoolean asking) {
        try {
            asker.request(question, new RequestCallback() {
                @Override
                public void onSuccess(Message reply) {
                    heard.set(true);
                }

                @Override
                public void onException(Throwable error) {
                    asking.set(false);
                }
            }, HEARTBEAT_MS);
        } catch (Exception error) {
            throw new AssertionError("the asker cannot send", error);
        }
    }

    private static Message message(String topic, String text) {
        return new Message(topic, text.getBytes(StandardCharsets.UTF_8));
    }

    private static String text(Message message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }

    /** The client of 5.3.3 takes the answer to its send for the end of the waiting, so that most replies come to nobody, whatever the server. */
    private static boolean givesUpAtOnce() {
        for (Method method : RequestResponseFuture.class.getMethods()) {
            if (method.getName().equals("acquireCountDownLatch")) {
                return true;
            }
        }
        return false;
    }

    private static void sync(DefaultMQProducer asker, String topic) throws Exception {
        if (givesUpAtOnce()) {
            throw new Scenarios.Skip("this client does not wait for the reply");
        }
        for (int i = 0; i < COUNT; i++) {
            Message question = message(topic, "question " + i);
            Message reply = asker.request(question, TTL_MS);
            check(text(reply).equals("question " + i + "!"), "reply " + text(reply) + " to question " + i);
            check(reply.getProperty("CORRELATION_ID").equals(question.getProperty("CORRELATION_ID")), "another's correlation id");
            for (String name : new String[] {"PUSH_REPLY_TIME", "ARRIVE_TIME", "TTL"}) {
                check(reply.getProperty(name) != null, "no " + name);
            }
            check("reply".equals(reply.getProperty("MSG_TYPE")), "MSG_TYPE " + reply.getProperty("MSG_TYPE"));
        }
    }

    private static void async(DefaultMQProducer asker, String topic) throws Exception {
        Set<String> replies = new ConcurrentSkipListSet<>();
        AtomicReference<Throwable> failure = new AtomicReference<>();
        for (int i = 0; i < COUNT; i++) {
            asker.request(message(topic, "async " + i), new RequestCallback() {
                @Override
                public void onSuccess(Message reply) {
                    replies.add(text(reply));
                }

                @Override
                public void onException(Throwable error) {
                    failure.set(error);
                }
            }, TTL_MS);
        }
        await(30, "every reply", () -> replies.size() == COUNT || failure.get() != null);
        check(failure.get() == null, "failed: " + failure.get());
        for (int i = 0; i < COUNT; i++) {
            check(replies.contains("async " + i + "!"), "no reply to async " + i);
        }
    }

    /** A reply to nobody fails, and its sender hears of it. */
    private static void refused(DefaultMQProducer replier, MessageExt request) throws Exception {
        Message reply = MessageUtil.createReplyMessage(request, "to nobody".getBytes(StandardCharsets.UTF_8));
        reply.getProperties().put("REPLY_TO_CLIENT", "nobody");
        replier.setRetryTimesWhenSendFailed(0);
        try {
            replier.send(reply);
        } catch (MQClientException error) {
            // The code is one that clients try other brokers for; this is what is left of it.
            check(error.getResponseCode() == SYSTEM_ERROR, "code " + error.getResponseCode());
            check(String.valueOf(error.getCause()).contains("channel of <nobody> not found"), String.valueOf(error.getCause()));
            return;
        }
        throw new AssertionError("a reply to nobody succeeded");
    }

    private static void unanswered(DefaultMQProducer asker, String topic) throws Exception {
        try {
            asker.request(message(topic, "unanswered"), 1_500);
        } catch (RequestTimeoutException expected) {
            return;
        }
        throw new AssertionError("a request that nobody answers got a reply");
    }
}
