/**
 * Starts the server with what the environment says (settings.ts). What cannot be used is told in one message, and the
 * exit code is 1.
 */
import { serve } from './serve.ts';
import { readSettings, SettingsError } from './settings.ts';
import { StoreError } from './store.ts';

/** Errors that the person who starts the server can mend are told without a stack. */
function explain(error: unknown): string | undefined {
  if (error instanceof SettingsError || error instanceof StoreError) return error.message;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return `The port is taken: ${message}; choose another with PORT`;
  if (code === 'EACCES' || code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return `Cannot listen: ${message}`;
  return undefined;
}

try {
  await serve({ settings: readSettings(process.env) });
} catch (error) {
  console.error(explain(error) ?? error);
  process.exit(1);
}
