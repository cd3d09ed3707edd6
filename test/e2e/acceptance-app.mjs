// The web server of an application in a project with config/litestream.yml: replication runs with it where the variable
// LITESTREAM_IN_PUMA says so, and the dashboard is for administrators.
import { createServer } from 'node:http';
import { startReplication } from '../../dist/library/index.js';
import { dashboard } from '../../dist/library/adapters/node.js';

const replication = startReplication({ enabled: 'LITESTREAM_IN_PUMA' });
const board = dashboard({ path: '/litestream', auth: 'none' });

const server = createServer((request, response) => {
  if (!request.url?.startsWith('/litestream')) response.end('hello');
  else if (request.headers.cookie === 'user=admin') board(request, response);
  else response.writeHead(404).end();
});
server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port, state: replication.state }));
});
