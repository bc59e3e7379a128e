package peer;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs Java's mqadmin commands, one a line of standard input, in one virtual machine: words are separated by tabs. The output of each
 * command follows a line {@code $ <command>}.
 */
public final class Mqadmin {
    public static void main(String[] args) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            System.out.println("$ " + line.replace('\t', ' '));
            MQAdminStartup.main0(line.split("\t"), null);
            System.out.flush();
        }
        // Threads of the official clients may outlive their shutdown.
        System.exit(0);
    }
}
