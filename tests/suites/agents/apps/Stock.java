// `stock`: a Java program under the Java agent. The agent's core is on Maven Central and its instrumentation plugins are not, so the
// program opens its entry spans itself, by the same calls that the plugins make; reporting and its TLS are the agent's own.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import org.apache.skywalking.apm.agent.core.context.CarrierItem;
import org.apache.skywalking.apm.agent.core.context.ContextCarrier;
import org.apache.skywalking.apm.agent.core.context.ContextManager;
import org.apache.skywalking.apm.agent.core.context.trace.AbstractSpan;
import org.apache.skywalking.apm.agent.core.context.trace.SpanLayer;
import org.apache.skywalking.apm.network.trace.component.ComponentsDefine;

public class Stock {
    public static void main(String[] arguments) throws IOException {
        int port = Integer.parseInt(System.getenv("PORT"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/stock/leaf", Stock::leaf);
        server.start();
    }

    private static void leaf(HttpExchange exchange) throws IOException {
        ContextCarrier carrier = new ContextCarrier();
        for (CarrierItem item = carrier.items(); item.hasNext(); ) {
            item = item.next();
            item.setHeadValue(exchange.getRequestHeaders().getFirst(item.getHeadKey()));
        }
        AbstractSpan span = ContextManager.createEntrySpan("/stock/leaf", carrier);
        span.setComponent(ComponentsDefine.JETTY_SERVER);
        SpanLayer.asHttp(span);
        String trace = ContextManager.getGlobalTraceId();
        ContextManager.stopSpan();
        byte[] answer = ("{\"leaf\": \"stock\", \"trace\": \"" + trace + "\"}").getBytes();
        exchange.getResponseHeaders().set("content-type", "application/json");
        exchange.sendResponseHeaders(200, answer.length);
        exchange.getResponseBody().write(answer);
        exchange.close();
    }
}
