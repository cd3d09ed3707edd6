/**
 * What a command has of the world: its folder, environment, standard streams, and the log channel, which is
 * standard error until a config file was read and what the config says from then on.
 */

import { systemCode } from '../base/errors.ts';
import { createLogger } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import { printableLines } from '../base/printable.ts';
import type { Config } from '../config/index.ts';
import { Supervision } from '../control/supervision.ts';

/** What a shell reports for a process that died of SIGPIPE, as v0.3.13 does when its reader has gone. */
const BROKEN_PIPE_EXIT_CODE = 141;

type StreamName = 'stdout' | 'stderr';

export class CommandContext {
  readonly cwd: string = process.cwd();
  readonly env: NodeJS.ProcessEnv = process.env;
  /** Set when the library's startReplication() has started this process: it reads the log as JSON, on standard error. */
  readonly supervision: Supervision | undefined = Supervision.take(process.env);
  /**
   * What goes to standard output besides the log: with 'log' nothing does, and the command goes on when its reader
   * has gone; with 'table' and 'json' the config's warnings go to standard error, and with 'json' all of the log.
   */
  output: 'log' | 'table' | 'json' = 'table';
  #logStream: StreamName = 'stderr';
  #logger: Logger = createLogger({
    format: this.supervision === undefined ? 'default' : 'json',
    level: 'INFO',
    write: (line) => this.#write('stderr', line),
  });
  #warningLogger: Logger = this.#logger;
  #takesExcerpts: boolean = this.supervision === undefined;
  readonly #watched = new Set<StreamName>();

  /** The log channel as it is now: ask again after applyConfig. */
  get logger(): Logger {
    return this.#logger;
  }

  /** Where log lines go now. */
  get logStream(): StreamName {
    return this.#logStream;
  }

  /** Takes over the log channel that a config file asks for. */
  applyLogging({ level, ...asked }: Config['logging']): void {
    const logging = this.supervision === undefined ? asked : ({ type: 'json', stderr: true } as const);
    const stream = logging.stderr || this.output === 'json' ? 'stderr' : 'stdout';
    const open = (name: StreamName): Logger =>
      createLogger({
        format: logging.type,
        level,
        write: (line) => this.#write(name, line),
      });
    this.#logStream = stream;
    this.#logger = open(stream);
    this.#warningLogger = this.output === 'log' ? this.#logger : open('stderr');
    this.#takesExcerpts = logging.type === 'text' || stream === 'stdout';
  }

  /** Logs a warning about the config file. `place` is its `path:line:col`, the line and a caret, on lines of their own. */
  warnOfConfig(message: string, place: string): void {
    const [at = ''] = place.split('\n', 1);
    this.#warningLogger.warn(message, { at });
    this.printExcerpt(place.slice(at.length + 1));
  }

  /** Writes what is better read as it stands than quoted, to standard error, unless that is a log of JSON lines. */
  printExcerpt(text: string): void {
    if (this.#takesExcerpts) this.printError(`${text}\n`);
  }

  /** Writes to standard output, but nothing that commands a terminal: paths and messages are those of others. */
  print(text: string): void {
    this.#write('stdout', printableLines(text));
  }

  /** Writes to standard error, but nothing that commands a terminal. */
  printError(text: string): void {
    this.#write('stderr', printableLines(text));
  }

  /**
   * Shows what only the person before the terminal is to see. Files, pipes and journals do not get it.
   * @returns false where there is no terminal
   */
  showOnTerminal(text: string): boolean {
    const name = (['stderr', 'stdout'] as const).find((candidate) => process[candidate].isTTY);
    if (name !== undefined) this.#write(name, text);
    return name !== undefined;
  }

  /**
   * Ends the process when everything written has left it. Commands never end by themselves: SQLite connections that
   * are closed on the way out would checkpoint the user's WAL and delete it.
   */
  async exit(code: number): Promise<never> {
    for (const name of this.#watched) {
      const stream = process[name];
      if (stream.writableLength > 0) await new Promise<void>((resolve) => stream.write('', () => resolve()));
    }
    process.exit(code);
  }

  #write(name: StreamName, text: string): void {
    const stream = process[name];
    if (!this.#watched.has(name)) {
      this.#watched.add(name);
      stream.on('error', (error: Error) => this.#onLostReader(error));
    }
    if (!stream.destroyed) stream.write(text);
  }

  #onLostReader(error: Error): void {
    if (this.output === 'log') return;
    process.exit(systemCode(error) === 'EPIPE' ? BROKEN_PIPE_EXIT_CODE : 1);
  }
}
