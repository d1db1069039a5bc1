/* Changes the engine at this address, before it runs, into one that other replicas may fetch parts from on its HTTP port.
 * Returns why it could not, or NULL. */
const char *serve_replicas(unsigned char *library, unsigned short port);
