// A labelled text field or choice: label above, hint and error tied to it for assistive technology.
import { useId, type InputHTMLAttributes, type ReactNode, type Ref, type SelectHTMLAttributes } from 'react'
import { CircleAlert } from 'lucide-react'
import css from './Field.module.css'

interface FieldProps {
  label: string
  hint?: ReactNode
  error?: string | undefined
}

function describe(id: string, hint: ReactNode, error: string | undefined): string | undefined {
  return [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(' ') || undefined
}

function Frame({ id, label, hint, error, children }: FieldProps & { id: string; children: ReactNode }) {
  return (
    <div className={css.field}>
      <label htmlFor={id} className={css.label}>
        {label}
      </label>
      {hint && (
        <div id={`${id}-hint`} className={css.hint}>
          {hint}
        </div>
      )}
      {children}
      {error && (
        <p id={`${id}-error`} className={css.error}>
          <CircleAlert size={18} aria-hidden="true" /> {error}
        </p>
      )}
    </div>
  )
}

type TextProps = FieldProps & InputHTMLAttributes<HTMLInputElement> & { ref?: Ref<HTMLInputElement> }

export function TextField({ label, hint, error, ...rest }: TextProps) {
  const id = useId()
  return (
    <Frame id={id} label={label} hint={hint} error={error}>
      <input {...rest} id={id} className={css.input} aria-invalid={error ? true : undefined} aria-describedby={describe(id, hint, error)} />
    </Frame>
  )
}

type SelectProps = FieldProps & SelectHTMLAttributes<HTMLSelectElement>

export function SelectField({ label, hint, error, children, ...rest }: SelectProps) {
  const id = useId()
  return (
    <Frame id={id} label={label} hint={hint} error={error}>
      <select {...rest} id={id} className={css.input} aria-describedby={describe(id, hint, error)}>
        {children}
      </select>
    </Frame>
  )
}

interface CheckProps {
  label: string
  checked: boolean
  onChange: (checked: boolean) => void
}

export function CheckField({ label, checked, onChange }: CheckProps) {
  return (
    <label className={css.check}>
      <input type="checkbox" checked={checked} onChange={(event) => onChange(event.target.checked)} />
      {label}
    </label>
  )
}
