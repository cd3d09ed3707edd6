/** A bounded number of requests under way, answered in the order in which they were sent. */

export class Window {
  readonly #limit: number;
  readonly #sent: Promise<unknown>[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Sends one more once there is room. Throws the failure of an earlier one, without sending. */
  async send(request: () => Promise<unknown>): Promise<void> {
    while (this.#sent.length >= this.#limit) await this.#sent.shift();
    const answer = request();
    // Its failure is thrown where its turn comes.
    answer.catch(() => undefined);
    this.#sent.push(answer);
  }

  /** Resolves when all are answered; throws the first failure. */
  async drain(): Promise<void> {
    for (let answer = this.#sent.shift(); answer !== undefined; answer = this.#sent.shift()) await answer;
  }
}
