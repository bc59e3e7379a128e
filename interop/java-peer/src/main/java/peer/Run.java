package peer;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;

/** What the programs share: their end, and waiting for what the Java server does behind its answer. */
final class Run {
    /** Brokers register every 30 s. */
    private static final long LIMIT_MS = 45_000;

    interface Body {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    /** Ends the process with the body, well or not: threads of the official clients may outlive both their shutdown and an exception. */
    static void main(Body body) {
        try {
            body.run();
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }

    static void await(String what, Condition condition) throws Exception {
        long deadline = System.currentTimeMillis() + LIMIT_MS;
        while (!condition.holds()) {
            if (System.currentTimeMillis() > deadline) {
                throw new IllegalStateException(what + ": not within " + LIMIT_MS + " ms");
            }
            Thread.sleep(20);
        }
    }

    /** The queues of a topic, in order. A topic that was just created reaches the name server a little later. */
    static List<MessageQueue> queues(DefaultMQProducer producer, String topic) throws Exception {
        List<MessageQueue> queues = new ArrayList<>();
        await("the route of " + topic, () -> {
            try {
                queues.addAll(producer.fetchPublishMessageQueues(topic));
                return true;
            } catch (MQClientException unknown) {
                return false;
            }
        });
        queues.sort(null);
        return queues;
    }
}
