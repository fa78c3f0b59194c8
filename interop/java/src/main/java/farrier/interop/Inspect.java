package farrier.interop;

import static farrier.interop.Harness.open;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Stat;

/**
 * Writes the whole tree, as a superuser sees it over the wire, as one JSON object per line and znode in the order of
 * the paths: {@code Inspect CONNECT FILE}.
 */
public final class Inspect {
    public static void main(String[] args) throws Exception {
        ObjectMapper json = new ObjectMapper();
        int znodes = 0;
        ZooKeeper zk = open(args[0], 20_000);
        zk.addAuthInfo("digest", Harness.bytes("super:farrier"));
        try (PrintStream out = new PrintStream(Files.newOutputStream(Path.of(args[1])), false, StandardCharsets.UTF_8)) {
            ArrayList<String> stack = new ArrayList<>(List.of("/"));
            while (!stack.isEmpty()) {
                String path = stack.remove(stack.size() - 1);
                out.println(json.writeValueAsString(znode(zk, path)));
                znodes++;
                List<String> children = zk.getChildren(path, false);
                Collections.sort(children, Collections.reverseOrder());
                for (String child : children) {
                    stack.add((path.equals("/") ? "" : path) + "/" + child);
                }
            }
        }
        zk.close();
        System.out.println("END " + znodes + " 0");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static Map<String, Object> znode(ZooKeeper zk, String path) throws KeeperException, InterruptedException {
        Stat stat = new Stat();
        byte[] data = zk.getData(path, false, stat);
        List<String> acls = new ArrayList<>();
        for (ACL acl : zk.getACL(path, new Stat())) {
            acls.add(acl.getPerms() + " " + acl.getId().getScheme() + " " + acl.getId().getId());
        }
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("path", path);
        line.put("data", data == null ? null : Base64.getEncoder().encodeToString(data));
        line.put("czxid", Long.toHexString(stat.getCzxid()));
        line.put("mzxid", Long.toHexString(stat.getMzxid()));
        line.put("pzxid", Long.toHexString(stat.getPzxid()));
        line.put("ctime", stat.getCtime());
        line.put("mtime", stat.getMtime());
        line.put("version", stat.getVersion());
        line.put("cversion", stat.getCversion());
        line.put("aversion", stat.getAversion());
        line.put("ephemeralOwner", Long.toHexString(stat.getEphemeralOwner()));
        line.put("dataLength", stat.getDataLength());
        line.put("numChildren", stat.getNumChildren());
        line.put("descendants", zk.getAllChildrenNumber(path));
        line.put("acl", acls);
        return line;
    }
}
