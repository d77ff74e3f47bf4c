# bash completion for nixbox. Verbs and options come from the program's own --help, so this cannot fall behind it.
_nixbox() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]} verb='' i
    local boxes=${XDG_RUNTIME_DIR:-/tmp/nixbox-$UID}/nixbox
    COMPREPLY=()
    case $prev in
    -n | --name) mapfile -t COMPREPLY < <(compgen -W "$(ls "$boxes" 2>/dev/null)" -- "$cur") && return ;;
    -f | --file) mapfile -t COMPREPLY < <(compgen -f -- "$cur") && return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -n | --name | -f | --file) ((i++)) ;;
        -*) ;;
        *) verb=${COMP_WORDS[i]} && break ;;
        esac
    done
    if [[ $cur == -* ]]; then
        local help
        help=$("$program" $verb --help 2>/dev/null)
        mapfile -t COMPREPLY < <(compgen -W "$(grep -oE -- '(^|[^A-Za-z0-9-])--?[A-Za-z][A-Za-z-]*' <<<"$help" | grep -oE -- '-.*' | sort -u)" -- "$cur")
    elif [[ -z $verb ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$("$program" --help 2>/dev/null | sed -n 's/^  \([a-z]\+\) .*/\1/p')" -- "$cur")
    elif [[ $verb == @(allow|deny|why) ]]; then # hosts that were denied lately
        mapfile -t COMPREPLY < <(compgen -W "$("$program" events --denied --json 2>/dev/null | sed -n 's/.*"host": *"\([^"]*\)".*/\1/p' | sort -u)" -- "$cur")
    elif [[ $verb == attack ]]; then # its probes
        mapfile -t COMPREPLY < <(compgen -W "$("$program" attack --list 2>/dev/null | awk '{print $2}')" -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -o filenames -F _nixbox nixbox
