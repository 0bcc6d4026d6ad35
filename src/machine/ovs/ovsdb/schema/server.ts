/** The _Server database, version 1.2.0: what ovsdb-server tells of the databases that it serves (ovsdb-server(5)). */
import { readSchema } from './notation.ts';

export const SERVER = readSchema('_Server', '1.2.0', '3009684573 744', {
  Database: {
    columns: {
      name: 'string',
      model: 'string{clustered|relay|standalone}',
      connected: 'boolean',
      leader: 'boolean',
      schema: 'string {0..1}',
      sid: 'uuid {0..1}',
      cid: 'uuid {0..1}',
      index: 'integer {0..1}',
    },
  },
});
