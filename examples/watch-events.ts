/**
 * Follows a topology's events, one JSON object a line, and comes back by itself when the connection is lost: every event is
 * printed once, and what the server had to leave out is printed as a gap. Needs nothing but Node.
 *
 *     node examples/watch-events.ts http://127.0.0.1:8080 demo 'role=dropped&after=-1'
 */
const [server = 'http://127.0.0.1:8080', topology = 'demo', filter = ''] = process.argv.slice(2);
const RETRY_MS = 500;

const query = new URLSearchParams(filter);
/** The last event that this program knows about; null before `hello`. */
let last: number | null = query.has('after') ? Number(query.get('after')) : null;

function follow(): void {
  // Without `after` the stream begins with what comes from now on, so after a loss it has to be said.
  if (last !== null) query.set('after', String(last));
  const address = `${server.replace(/^http/, 'ws')}/v1/topologies/${topology}/events?${query}`;
  const socket = new WebSocket(address, 'ringside.v1+json');
  let ended = false;
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(String(data));
    switch (message.type) {
      case 'hello':
        last ??= message.next - 1;
        return;
      case 'events':
        for (const event of message.events) console.log(JSON.stringify(event));
        last = message.to - 1;
        return;
      case 'gap':
        console.log(JSON.stringify(message));
        last = message.to - 1;
        return;
      case 'error':
        console.error(message.problem.detail);
        return;
      case 'end':
        console.error(message.reason);
        ended = true;
    }
  };
  socket.onclose = ({ code }) => {
    if (!ended) console.error(`the connection ended (${code}), trying again`);
    if (!ended) setTimeout(follow, RETRY_MS);
  };
}
follow();
