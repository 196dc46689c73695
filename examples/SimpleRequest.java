// Sends an image to Sluice and prints the response: java SimpleRequest.java cat.jpg [URL]
//
// Java 17 or newer, without a library. The response is JSON; parse it with the library of your project.

import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.time.Duration;

public class SimpleRequest {
    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length == 0) {
            System.err.println("SimpleRequest: name an image: java SimpleRequest.java cat.jpg [URL]");
            System.exit(1);
        }
        String url = arguments.length > 1 ? arguments[1] : "http://127.0.0.1:5000";
        try {
            classify(Path.of(arguments[0]), url);
        } catch (ConnectException error) {
            System.err.println("SimpleRequest: no service answers at " + url);
            System.exit(1);
        } catch (IOException | IllegalArgumentException error) { // no file, no response, no URL
            System.err.println("SimpleRequest: " + error);
            System.exit(1);
        }
    }

    private static void classify(Path image, String url) throws IOException, InterruptedException {
        // The body is the image itself; its first bytes decide the format.
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + "/predict?top=3"))
                .header("Content-Type", "application/octet-stream")
                // Longer than the deadline of the service (30 s by default), so that the service answers first.
                .timeout(Duration.ofSeconds(60))
                .POST(HttpRequest.BodyPublishers.ofFile(image));
        // If the service asks for API keys, this variable has yours.
        String key = System.getenv("SLUICE_API_KEY");
        if (key != null) {
            request.header("Authorization", "Bearer " + key);
        }
        HttpResponse<String> response = HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() == 200) {
            System.out.println(response.body());
        } else {
            System.err.println(response.statusCode() + " " + response.body());
            System.exit(1);
        }
    }
}
