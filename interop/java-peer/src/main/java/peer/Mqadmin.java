package peer;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs Java's mqadmin commands, one a line of standard input, in one virtual machine: words are separated by tabs. The output of each
 * command follows a line {@code $ <command>}. The line {@code send <name server> <topic> <count>} sends messages that are the same in every run
 * but for ids and times; {@code ${N}} in a later command is the offset id of message N. What differs from server to server and run to run
 * (addresses, times, versions, ids, rates) is replaced by its name.
 */
public final class Mqadmin {
    /** Pattern and what stands for it, in order. */
    private static final String[][] VARYING = {
        {"\\d+\\.\\d+\\.\\d+\\.\\d+:\\d+", "ADDRESS"},
        {"\\d{4}-\\d\\d-\\d\\d[# ]\\d\\d:\\d\\d:\\d\\d[:,]\\d+", "TIME"},
        // The last time that a message of a queue was consumed.
        {"\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d", "TIME"},
        {"[0-9A-F]{24,64}", "ID"},
        {"V\\d+_\\d+_\\d+", "VERSION"},
        {"\"timestamp\":\\d+", "\"timestamp\":TIME"},
        {"\"epoch\": ?\\d+", "\"epoch\":TIME"},
        {"written to file \\S+", "written to file FILE"},
        // The columns of rates, waits, hours and disk of clusterList.
        {"\\d+\\.\\d\\d\\(\\d+,\\d+ms[^)]*\\)", "RATE"},
        {"(?m)^(\\S+ +\\S+ +\\d+ +ADDRESS +VERSION +RATE +RATE) .*$", "$1 STATE"},
        {"Put TPS: \\S+", "Put TPS: RATE"},
        {" +", " "},
    };

    private static final List<String> IDS = new ArrayList<>();

    public static void main(String[] args) {
        Run.main(Mqadmin::commands);
    }

    private static void commands() throws Exception {
        PrintStream out = System.out;
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.split("\t");
            ByteArrayOutputStream caught = new ByteArrayOutputStream();
            System.setOut(new PrintStream(caught, true, "UTF-8"));
            if (words[0].equals("send")) {
                send(words[1], words[2], Integer.parseInt(words[3]));
            } else {
                for (int i = 0; i < words.length; i++) {
                    if (words[i].startsWith("${")) {
                        words[i] = IDS.get(Integer.parseInt(words[i].substring(2, words[i].length() - 1)));
                    }
                }
                MQAdminStartup.main0(words, null);
            }
            System.out.flush();
            out.println("$ " + normalized(line.replace('\t', ' ')));
            out.println(normalized(new String(caught.toByteArray(), StandardCharsets.UTF_8)));
            out.flush();
        }
    }

    private static void send(String nameServer, String topic, int count) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("mqadmin_sender");
        producer.setNamesrvAddr(nameServer);
        producer.start();
        List<MessageQueue> queues = Run.queues(producer, topic);
        for (int i = 0; i < count; i++) {
            Message message = new Message(topic, "tag" + i % 3, "key" + i + " all", ("body " + i + " 正文").getBytes(StandardCharsets.UTF_8));
            message.putUserProperty("number", String.valueOf(i));
            SendResult sent = producer.send(message, queues.get(i % queues.size()));
            IDS.add(sent.getOffsetMsgId());
        }
        producer.shutdown();
        // Consume queues and the index are written behind: the last message of a key query says that they are there.
        DefaultMQProducer query = new DefaultMQProducer("mqadmin_query");
        query.setNamesrvAddr(nameServer);
        query.start();
        Run.await("the last message in the index", () -> found(query, topic, "key" + (count - 1)));
        query.shutdown();
    }

    private static boolean found(DefaultMQProducer query, String topic, String key) throws InterruptedException {
        try {
            return !query.queryMessage(topic, key, 10, 0, Long.MAX_VALUE).getMessageList().isEmpty();
        } catch (MQClientException absent) {
            return false;
        }
    }

    private static String normalized(String text) {
        for (String[] each : VARYING) {
            text = text.replaceAll(each[0], each[1]);
        }
        return text;
    }
}
