// As lookup.c, with Java's InetAddress, or with JNDI where the first argument is `jndi`.

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Hashtable;
import java.util.List;
import javax.naming.CommunicationException;
import javax.naming.NameNotFoundException;
import javax.naming.NamingException;
import javax.naming.ServiceUnavailableException;
import javax.naming.directory.Attribute;
import javax.naming.directory.InitialDirContext;

public class Lookup {
    static String addresses(String name) {
        try {
            List<String> found = new ArrayList<>();
            if (name.matches("[0-9.]+")) {
                InetAddress address = InetAddress.getByName(name);
                String host = address.getCanonicalHostName();
                return host.equals(name) ? "not found" : host;
            }
            for (InetAddress address : InetAddress.getAllByName(name)) {
                found.add(address.getHostAddress());
            }
            Collections.sort(found);
            return String.join(",", found);
        } catch (UnknownHostException error) {
            return error.getMessage().contains("emporary") ? "try again" : "not found";
        }
    }

    static String jndi(String name) throws NamingException {
        Hashtable<String, String> environment = new Hashtable<>();
        environment.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
        environment.put("java.naming.provider.url", "dns:");
        InitialDirContext context = new InitialDirContext(environment);
        List<String> found = new ArrayList<>();
        try {
            String[] kinds = {"A", "AAAA"};
            if (name.matches("[0-9.]+")) {
                String[] octets = name.split("\\.");
                name = octets[3] + "." + octets[2] + "." + octets[1] + "." + octets[0] + ".in-addr.arpa";
                kinds = new String[] {"PTR"};
            }
            for (String kind : kinds) {
                Attribute attribute = context.getAttributes(name, new String[] {kind}).get(kind);
                for (int i = 0; attribute != null && i < attribute.size(); i++) {
                    found.add(InetAddress.getByName((String) attribute.get(i)).getHostAddress());
                }
            }
        } catch (NameNotFoundException error) {
            return "not found";
        } catch (CommunicationException | ServiceUnavailableException error) {
            return "try again";
        } catch (NamingException error) {
            return error.getMessage();
        } catch (UnknownHostException error) {
            return error.getMessage();
        }
        Collections.sort(found);
        return found.isEmpty() ? "not found" : String.join(",", found);
    }

    static String lookup(boolean jndi, String name) throws NamingException {
        return jndi ? jndi(name) : addresses(name);
    }

    public static void main(String[] arguments) throws NamingException {
        boolean jndi = arguments[0].equals("jndi");
        for (int i = jndi ? 1 : 0; i < arguments.length; i++) {
            String[] parts = arguments[i].split("x", 2);
            boolean many = parts.length == 2 && parts[0].matches("[0-9]+");
            String name = many ? parts[1] : arguments[i];
            String first = lookup(jndi, name);
            for (int n = many ? Integer.parseInt(parts[0]) : 1; n > 1; n--) {
                String now = lookup(jndi, name);
                if (!now.equals(first)) {
                    first = "varies: " + now;
                    break;
                }
            }
            System.out.println(arguments[i] + "\t" + first);
        }
    }
}
