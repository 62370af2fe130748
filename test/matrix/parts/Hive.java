import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.file.Path;

/** HiveMQ CE that lets everybody in; without an extension that says so it refuses all. The argument is its folder. */
public class Hive implements ExtensionMain {
    @Override
    public void extensionStart(ExtensionStartInput in, ExtensionStartOutput out) {
        SimpleAuthenticator allow = (i, o) -> o.authenticateSuccessfully();
        Services.securityRegistry().setAuthenticatorProvider(i -> allow);
    }

    @Override
    public void extensionStop(ExtensionStopInput in, ExtensionStopOutput out) {}

    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[0]).toAbsolutePath();
        EmbeddedExtension allow = EmbeddedExtension.builder()
                .withId("allow").withName("allow").withVersion("1").withExtensionMain(new Hive()).build();
        EmbeddedHiveMQ.builder()
                .withConfigurationFolder(home.resolve("conf"))
                .withDataFolder(home.resolve("data"))
                .withExtensionsFolder(home.resolve("extensions"))
                .withEmbeddedExtension(allow)
                .build().start().join();
        Thread.currentThread().join();
    }
}
