/** A server that listens, and ends in order on SIGTERM or SIGINT: main.ts without the environment. */
import type { AddressInfo } from 'node:net';
import { type AppOptions, buildApp, type Ringside } from './app.ts';

/** After this the process ends whatever still hangs. */
const LAST_MS = 4500;

/** Listens, prints the address, and takes over the signals. */
export async function serve(options: AppOptions): Promise<void> {
  const ringside = await buildApp(options);
  ringside.restored.catch((error: unknown) => console.error(error));
  const { app } = ringside;
  const { host, port } = options.settings;
  // One address: the name stands for two, and a second listener would have connections of its own.
  await app.listen({ host: host === 'localhost' ? '127.0.0.1' : host, port });
  const bound = app.server.address() as AddressInfo;
  const address = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address;
  console.log(`Ringside serves on http://${address}:${bound.port}`);
  endOnSignals(ringside);
}

function endOnSignals(ringside: Ringside): void {
  let ending = false;
  const end = (): void => {
    if (ending) return;
    ending = true;
    setTimeout(() => process.exit(0), LAST_MS).unref();
    ringside.close().then(
      () => process.exit(0),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
}
