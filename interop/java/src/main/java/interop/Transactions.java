package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Transactions. The broker checks what is older than a few seconds, every second, three times at most; the topic has one queue.
 */
final class Transactions {
    private static final int COUNT = 20;
    private static final String GIVEN_UP = "TRANS_CHECK_MAX_TIME_TOPIC";

    private final Clients clients;
    private final String topic;
    private final Map<String, List<MessageExt>> received = new ConcurrentHashMap<>();
    private DefaultMQPushConsumer collector;

    Transactions(Clients clients) {
        this.clients = clients;
        this.topic = clients.topic("transactions");
    }

    void run(Scenarios scenarios) throws Exception {
        collector = clients.consumer("transactions");
        collector.subscribe(topic, "*");
        collector.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                received.computeIfAbsent(text(message), key -> new CopyOnWriteArrayList<>()).add(message);
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        collector.start();
        scenarios.runTogether(Arrays.asList(
            () -> scenarios.run("tx-commit", this::committed),
            () -> scenarios.run("tx-rollback", this::rolledBack),
            () -> scenarios.run("tx-check", this::checked),
            () -> scenarios.run("tx-other-producer", this::otherProducer),
            () -> scenarios.run("tx-limit", this::limit)));
        collector.shutdown();
    }

    /** Nobody sees a message before its commit, and everybody once after it. */
    private void committed() throws Exception {
        Map<String, Boolean> early = new ConcurrentHashMap<>();
        TransactionMQProducer producer = producer("commit", message -> {
            early.put(text(message), received.containsKey(text(message)));
            return LocalTransactionState.COMMIT_MESSAGE;
        }, message -> LocalTransactionState.COMMIT_MESSAGE);
        Map<String, TransactionSendResult> results = new ConcurrentHashMap<>();
        for (int i = 0; i < COUNT; i++) {
            Message message = message("commit " + i);
            message.setTags("t");
            message.setKeys("k" + i);
            results.put(text(message), producer.sendMessageInTransaction(message, null));
        }
        await(30, "every committed message", () -> results.keySet().stream().allMatch(received::containsKey));
        for (Map.Entry<String, TransactionSendResult> one : results.entrySet()) {
            check(!early.get(one.getKey()), one.getKey() + " was seen before its commit");
            check(received.get(one.getKey()).size() == 1, one.getKey() + " came " + received.get(one.getKey()).size() + " times");
            MessageExt message = received.get(one.getKey()).get(0);
            String id = one.getValue().getTransactionId();
            check(id != null && id.equals(message.getProperty("UNIQ_KEY")), "transaction " + id + " of message " + message.getProperty("UNIQ_KEY"));
            check(id.equals(message.getUserProperty("__transactionId__")), "__transactionId__ " + message.getUserProperty("__transactionId__"));
            check("true".equals(message.getProperty("TRAN_MSG")), "TRAN_MSG " + message.getProperty("TRAN_MSG"));
            check(producer.getProducerGroup().equals(message.getProperty("PGROUP")), "PGROUP " + message.getProperty("PGROUP"));
            check(topic.equals(message.getProperty("REAL_TOPIC")), "REAL_TOPIC " + message.getProperty("REAL_TOPIC"));
            check("0".equals(message.getProperty("REAL_QID")), "REAL_QID " + message.getProperty("REAL_QID"));
            check("t".equals(message.getTags()), "tag " + message.getTags());
            check((message.getSysFlag() & 12) == 8, "sysFlag " + message.getSysFlag());
            check(message.getPreparedTransactionOffset() > 0, "prepared at " + message.getPreparedTransactionOffset());
            check(collector.queryMessage(topic, message.getKeys(), 4, 0, System.currentTimeMillis() + 60_000).getMessageList().size() == 1,
                "not found by its key, once");
        }
        producer.shutdown();
    }

    private void rolledBack() throws Exception {
        TransactionMQProducer producer = producer("rollback",
            message -> LocalTransactionState.ROLLBACK_MESSAGE, message -> LocalTransactionState.COMMIT_MESSAGE);
        for (int i = 0; i < COUNT; i++) {
            producer.sendMessageInTransaction(message("rollback " + i), null);
        }
        // Longer than a check would take that had not heard of the rollback.
        Thread.sleep(8_000);
        for (int i = 0; i < COUNT; i++) {
            check(!received.containsKey("rollback " + i), "rollback " + i + " was delivered");
        }
        producer.shutdown();
    }

    /** The producer does not know, is asked with its own message, does not know again, then knows. */
    private void checked() throws Exception {
        Map<String, Integer> asked = new ConcurrentHashMap<>();
        List<String> wrong = new CopyOnWriteArrayList<>();
        TransactionMQProducer producer = producer("check", message -> LocalTransactionState.UNKNOW, message -> {
            if (!topic.equals(message.getTopic()) || !"mine".equals(message.getUserProperty("whose")) || message.getTransactionId() == null) {
                wrong.add(message.toString());
            }
            if (asked.merge(text(message), 1, Integer::sum) < 2) {
                return LocalTransactionState.UNKNOW;
            }
            return text(message).endsWith("yes") ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
        });
        for (String text : Arrays.asList("check 1 yes", "check 2 no", "check 3 yes")) {
            Message message = message(text);
            message.putUserProperty("whose", "mine");
            producer.sendMessageInTransaction(message, null);
        }
        await(60, "both messages that a check commits", () -> received.containsKey("check 1 yes") && received.containsKey("check 3 yes"));
        await(60, "the check of the third", () -> asked.getOrDefault("check 2 no", 0) >= 2);
        check(wrong.isEmpty(), "asked about " + wrong);
        Thread.sleep(3_000);
        check(!received.containsKey("check 2 no"), "a check rolled it back, and it was delivered");
        check(received.get("check 1 yes").size() == 1, "delivered " + received.get("check 1 yes").size() + " times");
        producer.shutdown();
    }

    /** The producer that sent is gone; another one of the group is asked. */
    private void otherProducer() throws Exception {
        TransactionMQProducer gone = producer("other", message -> LocalTransactionState.UNKNOW, message -> LocalTransactionState.ROLLBACK_MESSAGE);
        gone.sendMessageInTransaction(message("other left behind"), null);
        gone.shutdown();
        List<String> asked = new CopyOnWriteArrayList<>();
        TransactionMQProducer other = producer("other", message -> LocalTransactionState.COMMIT_MESSAGE, message -> {
            asked.add(text(message));
            return LocalTransactionState.COMMIT_MESSAGE;
        });
        // A broker knows a producer that has sent something.
        other.sendMessageInTransaction(message("other its own"), null);
        await(60, "what was left behind", () -> received.containsKey("other left behind") && received.containsKey("other its own"));
        check(asked.contains("other left behind"), "asked about " + asked);
        other.shutdown();
    }

    /** Nobody ever knows: the message is asked for so many times, and then kept for an operator. */
    @SuppressWarnings("deprecation")
    private void limit() throws Exception {
        AtomicInteger asked = new AtomicInteger();
        TransactionMQProducer producer = producer("limit", message -> LocalTransactionState.UNKNOW, message -> {
            asked.incrementAndGet();
            return LocalTransactionState.UNKNOW;
        });
        producer.sendMessageInTransaction(message("limit"), null);
        DefaultMQPullConsumer reader = new DefaultMQPullConsumer(clients.group("given_up"));
        reader.setNamesrvAddr(clients.nameServer);
        reader.setInstanceName(clients.group("given_up"));
        reader.start();
        List<MessageExt> found = new ArrayList<>();
        await(90, "the message in " + GIVEN_UP, () -> {
            found.clear();
            try {
                for (MessageQueue queue : reader.fetchSubscribeMessageQueues(GIVEN_UP)) {
                    List<MessageExt> messages = reader.pull(queue, "*", 0, 32).getMsgFoundList();
                    for (MessageExt message : messages == null ? Collections.<MessageExt>emptyList() : messages) {
                        if (topic.equals(message.getProperty("REAL_TOPIC")) && text(message).equals("limit")) {
                            found.add(message);
                        }
                    }
                }
            } catch (Exception notYet) {
                return false;
            }
            return !found.isEmpty();
        });
        check(found.size() == 1, found.size() + " times");
        check("3".equals(found.get(0).getProperty("TRANSACTION_CHECK_TIMES")), "times " + found.get(0).getProperty("TRANSACTION_CHECK_TIMES"));
        check(asked.get() == 3, "asked " + asked.get() + " times");
        check(!received.containsKey("limit"), "delivered all the same");
        reader.shutdown();
        producer.shutdown();
    }

    private TransactionMQProducer producer(
        String name, Function<Message, LocalTransactionState> execute, Function<MessageExt, LocalTransactionState> check) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(clients.group("tx_" + name));
        producer.setNamesrvAddr(clients.nameServer);
        producer.setInstanceName(clients.nextInstance());
        producer.setSendMsgTimeout(10_000);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                return execute.apply(message);
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return check.apply(message);
            }
        });
        producer.start();
        return producer;
    }

    private Message message(String text) {
        return new Message(topic, text.getBytes(StandardCharsets.UTF_8));
    }

    private static String text(Message message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }
}
