/** An error that the test server answers with. */

export class S3Fault extends Error {
  readonly status: number;
  readonly code: string;
  /** Further elements of the answer's XML. */
  readonly fields: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, fields: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.fields = fields;
  }
}
