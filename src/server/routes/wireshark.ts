/** /v1/wireshark: what makes Wireshark read Ringside's captures well, and list a server's hops as interfaces. */
import { media, problems } from '../responses.ts';
import type { App } from '../services.ts';
import { profileZip, wiresharkText } from '../wireshark-files.ts';

export function addWiresharkRoutes(app: App): void {
  let zip: Buffer | undefined;
  app.get(
    '/v1/wireshark/profile.zip',
    {
      schema: {
        operationId: 'downloadWiresharkProfile',
        tags: ['wireshark'],
        summary: 'Downloads the Wireshark profile',
        description:
          'Columns, colours, filters, and the Lua script beside them. Wireshark takes it under Edit > Configuration Profiles > ' +
          'Import > From zip file; the script has to go into the folder of Lua plugins by hand, as the README in it says.',
        response: { 200: media('A zip file with the folder `Ringside`.', { 'application/zip': {} }), ...problems() },
      },
    },
    async (_request, reply) => {
      zip ??= Buffer.from(profileZip());
      reply.header('content-disposition', 'attachment; filename="ringside-profile.zip"');
      return reply.type('application/zip').send(zip);
    },
  );

  app.get(
    '/v1/wireshark/ringside.lua',
    {
      schema: {
        operationId: 'downloadWiresharkScript',
        tags: ['wireshark'],
        summary: 'Downloads the Lua script',
        description:
          'Makes fields of the comments of each row (`ringside.hop`, `ringside.exit`, `ringside.drop` …) and dissects the rows ' +
          'of `view=events`.',
        response: { 200: media('The script.', { 'text/plain': { type: 'string' } }), ...problems() },
      },
    },
    async (_request, reply) => {
      reply.header('content-disposition', 'attachment; filename="ringside.lua"');
      return reply.type('text/plain; charset=utf-8').send(wiresharkText('ringside.lua'));
    },
  );

  app.get(
    '/v1/wireshark/extcap',
    {
      schema: {
        operationId: 'downloadExtcap',
        tags: ['wireshark'],
        summary: 'Downloads the extcap program',
        description:
          'A program for Node 18 or newer, without dependencies. In Wireshark’s extcap folder it lists the hops of every running ' +
          'topology as interfaces.',
        response: { 200: media('The program.', { 'text/plain': { type: 'string' } }), ...problems() },
      },
    },
    async (_request, reply) => {
      reply.header('content-disposition', 'attachment; filename="ringside.mjs"');
      return reply.type('text/plain; charset=utf-8').send(wiresharkText('extcap/ringside.mjs'));
    },
  );
}
