/**
 * Required before main.ts: what Node makes of the sources (types stripped, compiled) is kept for the next start, for this thread
 * and for the workers, which read the variable when they start. Where the folder cannot be written, nothing is kept.
 */
'use strict';
const { join } = require('node:path');
const { enableCompileCache } = require('node:module');

process.env.NODE_COMPILE_CACHE ??= join(__dirname, '..', '..', 'node_modules', '.cache', 'ringside');
enableCompileCache?.(process.env.NODE_COMPILE_CACHE);
